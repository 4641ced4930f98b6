"""Are the losses of task inference right: by hand, by a plain loop, against torch, by symmetry, by theory?"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, distributions
from torch.nn import functional as F

from mg2l_kalei.losses.inference import (
    Gaussian,
    cosine_logits,
    info_nce,
    information_bound,
    kl_divergence,
    kl_to_prior,
    leave_one_out_bound,
    nearest_neighbour_accuracy,
    prototype_nce,
)

TEMPERATURE = 0.3
TASK = torch.tensor([0, 1, 2, 0, 1, 1])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gaussian(*shape: int, seed: int = 0) -> Gaussian:
    return Gaussian(draw(*shape, seed=seed), 0.5 * draw(*shape, seed=seed + 100))


def reference(q: Gaussian) -> distributions.Normal:
    return distributions.Normal(q.mean, q.log_std.exp())


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


# --- Gaussians --------------------------------------------------------------------------------------------------------


def test_density_equals_the_reference() -> None:
    q, z = gaussian(4, 2, 3), draw(4, 2, 3, seed=1)
    torch.testing.assert_close(q.log_prob(z), reference(q).log_prob(z).sum(-1))


def test_samples_have_the_moments_they_should_and_carry_gradients() -> None:
    q = Gaussian(torch.tensor([1.0, -2.0], requires_grad=True), torch.tensor([0.0, -1.0], requires_grad=True))
    wide = Gaussian(q.mean.expand(20_000, 2), q.log_std.expand(20_000, 2))
    samples = wide.sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(samples.mean(0), q.mean, rtol=0, atol=0.03)
    torch.testing.assert_close(samples.std(0), q.log_std.exp(), rtol=0.03, atol=0)
    samples.sum().backward()
    assert q.mean.grad is not None and (q.mean.grad == 20_000).all()
    assert q.log_std.grad is not None and (q.log_std.grad != 0).all()


def test_a_detached_gaussian_takes_no_gradient() -> None:
    q = Gaussian(draw(2, 3).requires_grad_(), draw(2, 3).requires_grad_()).detach()
    assert not q.mean.requires_grad and not q.log_std.requires_grad


@pytest.mark.parametrize("seed", range(3))
def test_divergences_equal_the_reference(seed: int) -> None:
    q, p = gaussian(5, 4, seed=seed), gaussian(5, 4, seed=seed + 50)
    prior = Gaussian(torch.zeros(5, 4), torch.zeros(5, 4))
    torch.testing.assert_close(kl_divergence(q, p), distributions.kl_divergence(reference(q), reference(p)).sum(-1))
    torch.testing.assert_close(kl_to_prior(q), distributions.kl_divergence(reference(q), reference(prior)).sum(-1))


def test_divergences_are_never_negative_and_zero_at_equality_alone() -> None:
    q, p = gaussian(500, 4), gaussian(500, 4, seed=1)
    assert (kl_divergence(q, p) > 0).all() and (kl_to_prior(q) > 0).all()
    assert kl_divergence(q, q).abs().max() == 0
    assert kl_to_prior(Gaussian(torch.zeros(3, 4), torch.zeros(3, 4))).abs().max() == 0


def test_descent_on_the_divergence_ends_at_the_prior_and_at_zero() -> None:
    """A divergence that mixes two parametrisations of the deviation has its minimum elsewhere, and below zero."""
    q = Gaussian(draw(4).requires_grad_(), draw(4, seed=1).requires_grad_())
    optimiser = torch.optim.Adam(q, lr=0.05)
    for _ in range(400):
        optimiser.zero_grad()
        kl_to_prior(q).backward()
        optimiser.step()
    assert kl_to_prior(q).item() == pytest.approx(0.0, abs=1e-4)
    assert q.mean.abs().max() < 1e-2 and q.log_std.abs().max() < 1e-2


# --- contrast ---------------------------------------------------------------------------------------------------------


def test_logits_are_cosines_over_temperature_whatever_the_lengths() -> None:
    queries, keys = draw(6, 5), draw(3, 5, seed=1)
    logits = cosine_logits(queries, keys, TEMPERATURE)
    expected = [[cosine(query, key) / TEMPERATURE for key in keys] for query in queries]
    torch.testing.assert_close(logits, torch.tensor(expected))
    torch.testing.assert_close(cosine_logits(7 * queries, 0.1 * keys, TEMPERATURE), logits)


def looped_info_nce(queries: Tensor, keys: Tensor) -> float:
    """Key r is query r's positive; keys of its task are no negatives."""
    total = 0.0
    for r, task in enumerate(TASK):
        scores = {k: math.exp(cosine(queries[r], key) / TEMPERATURE) for k, key in enumerate(keys)}
        negatives = sum(score for k, score in scores.items() if TASK[k] != task)
        total -= math.log(scores[r] / (scores[r] + negatives))
    return total / len(TASK)


def test_info_nce_equals_a_plain_loop() -> None:
    queries, keys = draw(6, 5), draw(6, 5, seed=1)
    assert info_nce(queries, keys, TASK, TEMPERATURE).item() == pytest.approx(looped_info_nce(queries, keys), rel=1e-5)


def test_info_nce_is_the_mean_over_leading_axes() -> None:
    queries, keys = draw(3, 2, 6, 5), draw(3, 2, 6, 5, seed=1)
    pairs = zip(queries.flatten(0, 1), keys.flatten(0, 1), strict=True)
    expected = sum(looped_info_nce(q, k) for q, k in pairs) / 6
    assert info_nce(queries, keys, TASK, TEMPERATURE).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("moved", "matters"), [(0, True), (1, True), (2, True), (3, False)])
def test_a_mates_key_is_neither_positive_nor_negative(moved: int, matters: bool) -> None:
    """Row 3 is of row 0's task: what pulls and pushes query 0 does not depend on key 3."""
    queries, keys = draw(6, 5).requires_grad_(), draw(6, 5, seed=1)
    (before,) = torch.autograd.grad(info_nce(queries, keys, TASK, TEMPERATURE), queries)
    keys[moved] = draw(5, seed=2)
    (after,) = torch.autograd.grad(info_nce(queries, keys, TASK, TEMPERATURE), queries)
    assert torch.equal(before[0], after[0]) != matters


@pytest.mark.parametrize("loss", [info_nce, lambda q, _, task, tau: prototype_nce(q, draw(3, 5, seed=9), task, tau)])
def test_contrast_does_not_depend_on_the_order_of_rows(loss: Callable[..., Tensor]) -> None:
    queries, keys = draw(6, 5), draw(6, 5, seed=1)
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    permuted = loss(queries[order], keys[order], TASK[order], TEMPERATURE)
    torch.testing.assert_close(permuted, loss(queries, keys, TASK, TEMPERATURE))
    assert not torch.isclose(loss(queries, keys, TASK[order], TEMPERATURE), permuted)


def test_contrast_is_at_chance_for_equal_rows_and_near_zero_for_separate_tasks() -> None:
    same = torch.ones(6, 5)
    chance = (2 * math.log(5) + 3 * math.log(4) + math.log(6)) / 6  # strangers of each row, and its positive
    assert info_nce(same, same, TASK, TEMPERATURE).item() == pytest.approx(chance)
    assert prototype_nce(same, torch.ones(3, 5), TASK, TEMPERATURE).item() == pytest.approx(math.log(3))
    separate = torch.eye(3)[TASK]
    assert info_nce(separate, separate, TASK, 0.05).item() < 1e-6
    assert prototype_nce(separate, torch.eye(3), TASK, 0.05).item() < 1e-6


def test_the_information_bound_is_zero_for_equal_rows_and_at_most_the_log_of_their_number() -> None:
    alike, separate = torch.ones(8, 8), torch.eye(8)
    assert information_bound(alike, alike, 0.1).item() == pytest.approx(0.0, abs=1e-5)
    assert information_bound(separate, separate, 0.05).item() == pytest.approx(math.log(8), abs=1e-3)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_information_bound_lies_below_what_two_latents_of_two_tasks_share(temperature: float) -> None:
    task_alone = torch.eye(2)[torch.arange(64) % 2]
    assert information_bound(task_alone, task_alone, temperature).item() <= math.log(2) + 1e-5


def test_prototype_contrast_is_the_cross_entropy_of_cosines() -> None:
    queries, prototypes = draw(6, 5), draw(3, 5, seed=1)
    logits = torch.tensor([[cosine(query, key) / TEMPERATURE for key in prototypes] for query in queries])
    expected = F.cross_entropy(logits, TASK)
    torch.testing.assert_close(prototype_nce(queries, prototypes, TASK, TEMPERATURE), expected)
    stacked = torch.stack([queries, queries, queries]).unsqueeze(0)  # leading axes are averaged
    torch.testing.assert_close(prototype_nce(stacked, prototypes, TASK, TEMPERATURE), expected)


# --- leave-one-out bound ----------------------------------------------------------------------------------------------


def test_leave_one_out_bound_equals_a_plain_loop() -> None:
    q, z = gaussian(5, 3), draw(5, 3, seed=1)
    total = 0.0
    for r in range(5):
        densities = [reference(Gaussian(q.mean[k], q.log_std[k])).log_prob(z[r]).sum().exp().item() for k in range(5)]
        others = sum(density for k, density in enumerate(densities) if k != r) / 4
        total += math.log(densities[r] / others)
    assert leave_one_out_bound(q, z).item() == pytest.approx(total / 5, rel=1e-4)


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_leave_one_out_bound_lies_above_the_information_of_a_gaussian_channel(noise: float) -> None:
    """z = c + noise, c ~ N(0, 1): I(z; c) = log(1 + 1 / noise^2) / 2, known and finite."""
    information = 0.5 * math.log(1 + noise**-2)
    q = Gaussian(draw(2000, 1), torch.full((2000, 1), math.log(noise)))
    bound = leave_one_out_bound(q, q.sample(torch.Generator().manual_seed(1))).item()
    assert information - 0.03 < bound < information + 0.2


def test_leave_one_out_bound_is_zero_where_z_says_nothing_of_the_context() -> None:
    alike = Gaussian(torch.zeros(64, 3), torch.zeros(64, 3))
    assert leave_one_out_bound(alike, draw(64, 3)).item() == pytest.approx(0.0, abs=1e-5)


# --- accuracy ---------------------------------------------------------------------------------------------------------


def test_nearest_neighbour_accuracy_by_hand() -> None:
    angles = torch.tensor([0.0, 10.0, 90.0, 180.0]).deg2rad()
    queries = torch.stack([angles.cos(), angles.sin()], dim=-1)
    keys = 5 * torch.tensor([[1.0, 0.1], [0.0, 1.0], [-1.0, 0.0]])  # neighbours of the queries: 0, 0, 1, 2
    task, of_keys = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 1])  # right, wrong, right, wrong
    assert nearest_neighbour_accuracy(queries, task, keys, of_keys).item() == pytest.approx(1 / 2)
    assert nearest_neighbour_accuracy(torch.stack([queries, queries]), task, keys, of_keys).item() == 0.5
