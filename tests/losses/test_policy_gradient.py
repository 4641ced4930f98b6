"""Are advantages and actor-critic losses right: by hand, by a plain recursion, by theory?"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mg2l_kalei.losses.masking import masked_mean
from mg2l_kalei.losses.policy_gradient import (
    Values,
    clipped_surrogate,
    clipped_value_loss,
    explained_variance,
    generalized_advantages,
    standardised,
)

GAMMA, LAMBDA = 0.9, 0.8
T, B, N = 7, 3, 2


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def flags(*places: tuple[int, int]) -> Tensor:
    """(T, B) bool, True at the given (t, b)."""
    flag = torch.zeros(T, B, dtype=torch.bool)
    for t, b in places:
        flag[t, b] = True
    return flag


# --- advantages -------------------------------------------------------------------------------------------------------


def recursive_advantage(reward: Tensor, values: Values, ends: tuple[Tensor, Tensor], at: tuple[int, int, int]) -> float:
    """Eq. 16 of Schulman et al. 2016, from its definition: A_t = delta_t + gamma lambda A_(t + 1)."""
    t, b, n = at
    terminated, truncated = (bool(end[t, b]) for end in ends)
    delta = float(reward[at] - values.value[at]) + (0.0 if terminated else GAMMA * float(values.next_value[at]))
    if terminated or truncated or t == T - 1:
        return delta
    return delta + GAMMA * LAMBDA * recursive_advantage(reward, values, ends, (t + 1, b, n))


def advantages(reward: Tensor, values: Values, terminated: Tensor, truncated: Tensor) -> Tensor:
    return generalized_advantages(reward, values, terminated, truncated, gamma=GAMMA, gae_lambda=LAMBDA)


@pytest.mark.parametrize(
    ("terminated", "truncated"),
    [
        (flags(), flags()),
        (flags((2, 0), (6, 1)), flags()),
        (flags(), flags((2, 0), (6, 1))),
        (flags((0, 0), (3, 0), (4, 2)), flags((1, 1), (5, 0), (6, 2))),
    ],
    ids=["endless", "terminations", "truncations", "both, several in a trial"],
)
def test_advantages_equal_a_plain_recursion(terminated: Tensor, truncated: Tensor) -> None:
    reward, values = draw(T, B, N), Values(draw(T, B, N, seed=1), draw(T, B, N, seed=2))
    got = advantages(reward, values, terminated, truncated)
    for t in range(T):
        for b in range(B):
            for n in range(N):
                expected = recursive_advantage(reward, values, (terminated, truncated), (t, b, n))
                assert got[t, b, n].item() == pytest.approx(expected, abs=1e-5)


def test_what_follows_an_episodes_end_does_not_reach_back() -> None:
    terminated, truncated = flags((2, 0)), flags((2, 1))
    reward, values = draw(T, B, N), Values(draw(T, B, N, seed=1), draw(T, B, N, seed=2))
    before = advantages(reward, values, terminated, truncated)
    reward[3:] += 100
    after = advantages(reward, values, terminated, truncated)
    assert torch.equal(before[:3, :2], after[:3, :2])
    assert (before[:3, 2] != after[:3, 2]).all()


def test_only_a_truncation_bootstraps_from_the_true_successor() -> None:
    terminated, truncated = flags((2, 0)), flags((2, 1))
    reward, value, next_value = draw(T, B, N), draw(T, B, N, seed=1), draw(T, B, N, seed=2)
    before = advantages(reward, Values(value, next_value), terminated, truncated)
    shifted = advantages(reward, Values(value, next_value + 1), terminated, truncated)
    torch.testing.assert_close(shifted[2, 0], before[2, 0])
    torch.testing.assert_close(shifted[2, 1], before[2, 1] + GAMMA)


def test_for_an_agent_that_leaves_before_its_team_nothing_follows_and_its_team_goes_on() -> None:
    reward = torch.tensor([[1.0, 1.0], [2.0, 2.0], [4.0, 0.0]]).unsqueeze(1)  # (3, 1, 2)
    values = Values(torch.full((3, 1, 2), 0.5), torch.full((3, 1, 2), 10.0))
    next_alive = torch.tensor([[True, True], [True, False], [True, False]]).unsqueeze(1)  # agent 1 leaves in step 1
    none, at_the_end = torch.zeros(3, 1, dtype=torch.bool), torch.tensor([[False], [False], [True]])
    got = generalized_advantages(reward, values, none, at_the_end, next_alive, gamma=0.5, gae_lambda=0.5)
    # Errors: reward + 0.5 * 10 - 0.5; of agent 1 in step 1, 2 - 0.5. Then sums with 0.25.
    assert got[:, 0, 0].tolist() == [5.5 + 0.25 * (6.5 + 0.25 * 8.5), 6.5 + 0.25 * 8.5, 8.5]
    assert got[:2, 0, 1].tolist() == [5.5 + 0.25 * 1.5, 1.5]


def test_returns_of_n_steps_are_those_of_rollouts_of_that_length() -> None:
    n_step, ends = 3, (flags((4, 1)), flags((1, 0)))
    parts = draw(T, B, N), draw(T, B, N, seed=1), draw(T, B, N, seed=2), *ends

    def of(reward: Tensor, value: Tensor, next_value: Tensor, *ends: Tensor, n_step: int = 0) -> Tensor:
        values = Values(value, next_value)
        return generalized_advantages(reward, values, *ends, gamma=GAMMA, gae_lambda=1.0, n_step=n_step)

    short = [of(*(part[t : t + n_step] for part in parts)) for t in range(0, T, n_step)]
    torch.testing.assert_close(of(*parts, n_step=n_step), torch.cat(short))


def test_advantages_of_a_team_that_stays_are_the_same_bit_for_bit() -> None:
    ends = flags((2, 0), (5, 1)), flags((3, 2), (6, 0))
    given = draw(T, B, N), Values(draw(T, B, N, seed=1), draw(T, B, N, seed=2)), *ends
    everyone = torch.ones(T, B, N, dtype=torch.bool)
    got = generalized_advantages(*given, everyone, gamma=GAMMA, gae_lambda=LAMBDA)
    assert torch.equal(got, advantages(*given))


def test_lambda_zero_is_the_one_step_error_and_lambda_one_the_discounted_return() -> None:
    reward, values = draw(T, B, N), Values(draw(T, B, N, seed=1), draw(T, B, N, seed=2))
    values = values._replace(next_value=torch.cat([values.value[1:], values.next_value[-1:]]))
    one_step, whole = (
        generalized_advantages(reward, values, flags(), flags(), gamma=GAMMA, gae_lambda=gae_lambda)
        for gae_lambda in (0.0, 1.0)
    )
    torch.testing.assert_close(one_step, reward + GAMMA * values.next_value - values.value)
    discount = GAMMA ** torch.arange(T)[:, None, None]
    expected = (discount * reward).sum(0) + GAMMA**T * values.next_value[-1] - values.value[0]
    torch.testing.assert_close(whole[0], expected, rtol=1e-4, atol=1e-5)


# --- losses -----------------------------------------------------------------------------------------------------------


def test_the_mean_counts_only_where_the_weight_is_true() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 100.0]])
    assert masked_mean(x, torch.tensor([[True, True], [True, False]])) == 2.0
    assert masked_mean(x, None) == 26.5
    assert masked_mean(x, torch.zeros(2, 2, dtype=torch.bool)) == 0.0


def test_standardising_counts_only_where_the_weight_is_true() -> None:
    x, weight = draw(5, 4) * 7 + 3, draw(5, 4, seed=1) > 0
    y = standardised(x, weight)
    assert y[weight].mean() == pytest.approx(0.0, abs=1e-5) and y[weight].std() == pytest.approx(1.0, rel=1e-5)
    torch.testing.assert_close(y * x[weight].std() + x[weight].mean(), x)
    assert standardised(torch.ones(4), torch.ones(4, dtype=torch.bool)).abs().max() == 0  # constant: no blow-up


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective"),
    [
        (1.0, 2.0, 2.0),
        (1.1, 2.0, 2.2),  # inside the range: unclipped
        (1.5, 2.0, 2.4),  # a gain is clipped
        (0.5, 2.0, 1.0),  # a loss is not
        (1.5, -2.0, -3.0),
        (0.5, -2.0, -1.6),
    ],
)
def test_surrogate_by_hand(ratio: float, advantage: float, objective: float) -> None:
    old = torch.tensor([-1.3])
    loss, _ = clipped_surrogate(old + math.log(ratio), old, torch.tensor([advantage]), 0.2)
    assert -loss.item() == pytest.approx(objective, rel=1e-5)


def test_the_surrogates_gradient_at_ratio_one_is_the_policy_gradient() -> None:
    log_prob, advantage = draw(T, B, N).requires_grad_(), draw(T, B, N, seed=1)
    loss, metrics = clipped_surrogate(log_prob, log_prob.detach(), advantage, 0.2)
    (gradient,) = torch.autograd.grad(loss, log_prob)
    torch.testing.assert_close(gradient, -advantage / advantage.numel())
    assert metrics["train/approx_kl"] == 0 and metrics["train/ratio_error"] == 0


def test_a_clipped_gain_gives_no_gradient() -> None:
    old, advantage = torch.zeros(2), torch.tensor([1.0, -1.0])
    log_prob = torch.tensor([0.5, 0.5], requires_grad=True)
    clipped_surrogate(log_prob, old, advantage, 0.2)[0].backward()
    assert log_prob.grad is not None
    assert log_prob.grad[0] == 0 and log_prob.grad[1] > 0


def test_the_surrogates_metrics_by_hand() -> None:
    ratio = torch.tensor([1.0, 1.1, 1.5, 0.7])
    _, metrics = clipped_surrogate(ratio.log(), torch.zeros(4), torch.ones(4), 0.2)
    assert float(metrics["train/clip_fraction"]) == 0.5
    assert float(metrics["train/ratio_error"]) == pytest.approx(0.5)
    assert float(metrics["train/approx_kl"]) == pytest.approx((ratio - 1 - ratio.log()).mean().item())


@pytest.mark.parametrize(
    ("value", "clip_eps", "loss"),
    [
        (1.0, 0.2, 0.5 * 1.0**2),  # inside the range around 1.1
        (1.5, 0.2, 0.5 * 0.7**2),  # own error 0.5, clipped to 1.3: 0.7
        (0.5, 0.2, 0.5 * 1.5**2),  # clipping would make it better: the own error counts
        (1.5, math.inf, 0.5 * 0.5**2),
        (-3.0, math.inf, 2.0 * (5.0 - 1.0)),  # beyond delta: linear
        (7.0, math.inf, 2.0 * (5.0 - 1.0)),
    ],
)
def test_value_loss_by_hand(value: float, clip_eps: float, loss: float) -> None:
    got = clipped_value_loss(
        torch.tensor([value]), torch.tensor([1.1]), torch.tensor([2.0]), clip_eps=clip_eps, delta=2.0
    )
    assert got.item() == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_huber_loss_grows_linearly_beyond_delta_on_both_sides(sign: float) -> None:
    errors = sign * torch.tensor([20.0, 30.0, 40.0])
    losses = [
        clipped_value_loss(error, torch.zeros(()), torch.zeros(()), clip_eps=math.inf, delta=10.0) for error in errors
    ]
    assert losses[0] == 150
    assert losses[1] - losses[0] == losses[2] - losses[1] == 100


def test_explained_variance_of_a_perfect_a_constant_and_a_bad_prediction() -> None:
    target = draw(50)
    assert explained_variance(target, target) == 1
    assert explained_variance(torch.zeros(50), target) == pytest.approx(0.0, abs=1e-6)
    assert explained_variance(-target, target) == pytest.approx(-3.0, abs=1e-5)
    assert explained_variance(target, torch.ones(50)) == 0
