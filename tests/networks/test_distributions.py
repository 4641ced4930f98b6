"""Are the action distributions those of ``torch.distributions``, with padding and illegal actions left out?"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, distributions

from mg2l_kalei.networks import DiagonalGaussian, categorical


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=generator(seed))


MASK = torch.tensor([[True, True, True], [True, True, False]])  # the second agent has two action dimensions


@pytest.mark.parametrize("log_std_shape", [(3,), (2, 3), (4, 2, 3)])
def test_gaussian_equals_the_reference(log_std_shape: tuple[int, ...]) -> None:
    mean, log_std, action = draw(4, 2, 3), draw(*log_std_shape, seed=2), draw(4, 2, 3, seed=3)
    ours, reference = DiagonalGaussian(mean, log_std), distributions.Normal(mean, log_std.exp())
    torch.testing.assert_close(ours.log_prob(action), reference.log_prob(action).sum(-1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.entropy(), reference.entropy().sum(-1), rtol=1e-5, atol=1e-5)
    assert torch.equal(ours.mode(), mean)


def test_gaussian_ignores_padded_dimensions() -> None:
    mean, action, log_std = draw(4, 2, 3), draw(4, 2, 3, seed=2), draw(3, seed=3)
    ours = DiagonalGaussian(mean, log_std, MASK)
    narrow = DiagonalGaussian(mean[:, 1:, :2], log_std[:2])
    torch.testing.assert_close(ours.log_prob(action)[:, 1:], narrow.log_prob(action[:, 1:, :2]))
    torch.testing.assert_close(ours.entropy()[:, 1:], narrow.entropy())
    assert (ours.mode()[:, 1, 2] == 0).all()
    assert (ours.sample(generator())[:, 1, 2] == 0).all()
    assert (ours.sample(generator())[:, 0] != 0).all()


def test_padded_dimensions_get_no_gradient() -> None:
    mean, log_std = draw(4, 2, 3).requires_grad_(), torch.zeros(2, 3, requires_grad=True)
    distribution = DiagonalGaussian(mean, log_std, MASK)
    (distribution.log_prob(draw(4, 2, 3, seed=2)) + distribution.entropy()).sum().backward()
    assert mean.grad is not None and log_std.grad is not None
    assert torch.equal((mean.grad != 0).all(0), MASK)
    assert torch.equal(log_std.grad != 0, MASK)


def test_gaussian_samples_have_its_moments_and_come_from_the_generator() -> None:
    mean, log_std = torch.tensor([1.0, -2.0]), torch.tensor([0.0, -1.0])
    distribution = DiagonalGaussian(mean.expand(50_000, 1, 2), log_std)
    sample = distribution.sample(generator())
    torch.testing.assert_close(sample.mean(0)[0], mean, rtol=0, atol=0.03)
    torch.testing.assert_close(sample.std(0)[0], log_std.exp(), rtol=0.03, atol=0)
    assert torch.equal(sample, distribution.sample(generator()))
    assert not torch.equal(sample, distribution.sample(generator(1)))


def some_legal() -> Tensor:
    legal = draw(6, 2, 5, seed=9) > 0
    legal[..., 3] = True
    return legal


def test_categorical_equals_the_reference() -> None:
    logits, action = draw(6, 2, 5), torch.randint(5, (6, 2), generator=generator())
    ours, reference = categorical(logits), distributions.Categorical(logits=logits)
    torch.testing.assert_close(ours.log_prob(action), reference.log_prob(action))
    torch.testing.assert_close(ours.entropy(), reference.entropy())
    assert torch.equal(ours.mode(), logits.argmax(-1))


def test_illegal_actions_are_as_if_they_did_not_exist() -> None:
    logits, legal = draw(6, 2, 5), some_legal()
    ours = categorical(logits, legal)
    for row in range(6):
        for agent in range(2):
            allowed = legal[row, agent]
            reference = distributions.Categorical(logits=logits[row, agent][allowed])
            torch.testing.assert_close(ours.log_probs[row, agent][allowed], reference.logits)
            torch.testing.assert_close(ours.entropy()[row, agent], reference.entropy())
            assert allowed[ours.mode()[row, agent]]
    assert (ours.log_probs.exp()[~legal] == 0).all()


def test_illegal_actions_are_never_sampled_and_legal_ones_as_often_as_they_should() -> None:
    logits, legal = torch.tensor([0.0, 1.0, 5.0]), torch.tensor([True, True, False])
    sample = categorical(logits.expand(20_000, 1, 3), legal.expand(20_000, 1, 3)).sample(generator())
    assert sample.shape == (20_000, 1) and sample.dtype == torch.int64
    assert (sample != 2).all()
    assert sample.double().mean().item() == pytest.approx(1 / (1 + math.exp(-1)), abs=0.02)


@pytest.mark.parametrize("shape", [(6, 2, 5), (40, 3, 4, 17), (1, 1, 1)], ids=str)
def test_an_action_is_drawn_as_multinomial_draws_one(shape: tuple[int, ...]) -> None:
    logits = 3 * draw(*shape)
    legal = draw(*shape, seed=9) > 0
    for distribution in (categorical(logits), categorical(logits, legal)):
        ours, theirs = generator(), generator()
        for _ in range(3):
            probs = distribution.log_probs.exp().flatten(0, -2)
            expected = torch.multinomial(probs, 1, generator=theirs).view(shape[:-1])
            assert torch.equal(distribution.sample(ours), expected)
        assert torch.equal(ours.get_state(), theirs.get_state())


@pytest.mark.parametrize("logit_scale", [1.0, 1e4, 1e35])
def test_gradients_are_finite_and_illegal_logits_get_none(logit_scale: float) -> None:
    logits, legal = (logit_scale * draw(6, 2, 5)).requires_grad_(), some_legal()
    distribution = categorical(logits, legal)
    (distribution.entropy() + distribution.log_prob(torch.full((6, 2), 3))).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad[~legal] == 0).all()


def test_a_row_without_legal_actions_is_harmless() -> None:
    logits = draw(6, 2, 5)
    legal = torch.ones(6, 2, 5, dtype=torch.bool)
    legal[2, 1] = False
    torch.testing.assert_close(categorical(logits, legal).log_probs, categorical(logits).log_probs)
