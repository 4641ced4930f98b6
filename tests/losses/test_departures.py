"""Is what losses leave out never computed with, were it infinite or no number at all?"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mg2l_kalei.losses.masking import masked_mean, mean_squared_error
from mg2l_kalei.losses.policy_gradient import clipped_surrogate, clipped_value_loss, standardised
from mg2l_kalei.networks import DiagonalGaussian, categorical
from tests.small_systems import draw

T, B, N = 7, 3, 2
STAYS = torch.tensor([[True, False], [True, True]])


def losses_and_gradients(given: list[Tensor], clip_eps: float) -> dict[str, Tensor]:
    """Policy and value losses where agent 1 has left row 0, gradients by what is learnt, and all metrics."""
    log_prob, old, advantage = given
    learnt, value = log_prob.clone().requires_grad_(), log_prob.clone().requires_grad_()
    surrogate, metrics = clipped_surrogate(learnt, old, advantage, 0.2, STAYS)
    value_loss = clipped_value_loss(value, old, advantage, clip_eps=clip_eps, delta=1.0, weight=STAYS)
    mean = masked_mean(learnt, STAYS)
    (by_log_prob,) = torch.autograd.grad(surrogate + mean, learnt)
    (by_value,) = torch.autograd.grad(value_loss, value)
    found = {"surrogate": surrogate, "value loss": value_loss, "mean": mean}
    found |= {"by log_prob": by_log_prob, "by value": by_value}
    return {name: torch.as_tensor(x).detach() for name, x in (found | metrics).items()}


@pytest.mark.parametrize("clip_eps", [0.2, math.inf], ids=["clipped values", "values as they are"])
@pytest.mark.parametrize("left_out", [1e3, -1e3, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("where", range(3), ids=["new", "old", "advantage or return"])
def test_departed_agents_count_nowhere(where: int, left_out: float, clip_eps: float) -> None:
    given = [draw(2, 2, seed=seed) for seed in range(3)]
    before = losses_and_gradients(given, clip_eps)
    given[where][0, 1] = left_out
    after = losses_and_gradients(given, clip_eps)
    assert before.keys() == after.keys() and "train/ratio_error" in before
    for name, expected in before.items():
        assert torch.equal(expected, after[name]) and expected.isfinite().all(), name
    assert before["by log_prob"][0, 1] == before["by value"][0, 1] == 0
    given[where][1, 1] += 0.1
    changed = losses_and_gradients(given, clip_eps)
    assert not torch.equal(changed["surrogate"], before["surrogate"])


@pytest.mark.parametrize("advantage", [(1.0, 1.0), (1.0, -1.0)])
def test_a_departed_agents_ratio_of_e_to_the_hundred_by_hand(advantage: tuple[float, float]) -> None:
    """It overflows, and times 0 it would be NaN."""
    log_prob = torch.tensor([0.0, 100.0], requires_grad=True)
    weight = torch.tensor([True, False])
    loss, metrics = clipped_surrogate(log_prob, torch.zeros(2), torch.tensor(advantage), 0.2, weight)
    loss.backward()
    assert log_prob.grad is not None
    assert loss.item() == -1.0 and log_prob.grad.tolist() == [-1.0, 0.0]
    assert {name: float(value) for name, value in metrics.items()} == {
        "train/approx_kl": 0.0,
        "train/clip_fraction": 0.0,
        "train/ratio_error": 0.0,
    }


@pytest.mark.parametrize("discrete", [False, True], ids=["continuous", "discrete"])
def test_the_entropy_of_departed_agents_may_be_anything(discrete: bool) -> None:
    """With all they see, and the actions that stand in their entries."""
    weight, given = torch.tensor([[True, False, True]]), draw(1, 3, 4)
    results = []
    for left_out in (0.0, 1e30, math.inf, math.nan):
        leaf = torch.where(weight.unsqueeze(-1), given, left_out).requires_grad_()
        distribution = categorical(leaf) if discrete else DiagonalGaussian(leaf, leaf)
        entropy = masked_mean(distribution.entropy(), weight)
        (gradient,) = torch.autograd.grad(entropy, leaf)
        results.append((entropy.detach(), gradient[weight]))
        assert entropy.isfinite() and gradient[weight].isfinite().all() and (gradient[weight] != 0).any()
    for entropy, gradient in results[1:]:
        assert torch.equal(entropy, results[0][0]) and torch.equal(gradient, results[0][1])


def test_a_squared_error_is_the_mean_over_those_who_are_there() -> None:
    predicted, target, alive = draw(3, 2, 4), draw(3, 2, 4, seed=1), torch.tensor([[True, False]] * 2 + [[False] * 2])
    expected = (predicted - target)[:2, 0].square().mean()
    predicted[:, 1], target[2] = math.nan, math.inf
    leaf = predicted.requires_grad_()
    error = mean_squared_error(leaf, target, alive)
    (gradient,) = torch.autograd.grad(error, leaf)
    torch.testing.assert_close(error, expected)
    assert gradient.isfinite().all() and (gradient[~alive] == 0).all() and (gradient[alive] != 0).all()
    nobody = mean_squared_error(leaf, target, torch.zeros_like(alive))
    assert nobody == 0 and (torch.autograd.grad(nobody, leaf)[0] == 0).all()
    torch.testing.assert_close(
        mean_squared_error(target[:2], draw(2, 2, 4), None), (target[:2] - draw(2, 2, 4)).square().mean()
    )


def test_standardising_each_agent_by_itself_by_hand() -> None:
    x = torch.tensor([[[1.0, 30.0, 5.0]], [[2.0, 20.0, 9.0]], [[3.0, 10.0, 7.0]], [[math.nan, math.inf, 1e9]]])
    weight = torch.ones(4, 1, 3, dtype=torch.bool)
    weight[3] = False
    weight[1:, :, 2] = False  # agent 2 acts once
    y = standardised(x, weight, per_agent=True)[:, 0]
    torch.testing.assert_close(y[:, 0], torch.tensor([-1.0, 0.0, 1.0, 0.0]))
    torch.testing.assert_close(y[:, 1], torch.tensor([1.0, 0.0, -1.0, 0.0]))
    assert y[:, 2].tolist() == [0.0] * 4  # a single entry has no deviation


def test_standardising_each_agent_by_itself_is_standardising_its_entries_alone() -> None:
    scale, offset = torch.tensor([1.0, 100.0]), torch.tensor([0.0, -7.0])
    x, weight = draw(T, B, N) * scale + offset, draw(T, B, N, seed=1) > 0
    y, together = standardised(x, weight, per_agent=True), standardised(x, weight)
    for agent in range(N):
        alone = standardised(x[..., agent], weight[..., agent])
        torch.testing.assert_close(y[..., agent][weight[..., agent]], alone[weight[..., agent]], rtol=1e-4, atol=1e-5)
        assert y[..., agent][weight[..., agent]].std() == pytest.approx(1.0, rel=1e-4)
    assert (y[~weight] == 0).all()
    assert together[..., 0][weight[..., 0]].std() < 0.1  # the other's scale drowns it


@pytest.mark.parametrize("per_agent", [False, True])
def test_standardising_where_nobody_or_a_single_one_is_there_stays_finite(per_agent: bool) -> None:
    x, nobody = draw(1, 1, 3), torch.zeros(1, 1, 3, dtype=torch.bool)
    assert standardised(x, nobody, per_agent=per_agent).isfinite().all()
    assert standardised(x, torch.tensor([[[True, False, False]]]), per_agent=per_agent)[0, 0, 0] == 0
