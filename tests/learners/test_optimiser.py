"""Is all that is owed in a step done: decay, sharing's term, clipping, reduction, and nothing of what others left?"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mg2l_kalei.learners.optimiser import Optimiser
from mg2l_kalei.processes import Processes
from mg2l_kalei.sharing.full import FullConfig, FullSharing
from mg2l_kalei.sharing.kaleidoscope import KaleidoscopeConfig, KaleidoscopeSharing
from mg2l_kalei.types import Clock
from tests.small_systems import draw, generator

N, IN, OUT, TOTAL = 3, 5, 4, 1000


def make(**settings: Any) -> Optimiser:
    sharing = FullSharing(FullConfig(), range(N), generator())
    return Optimiser("net", sharing.linear(IN, OUT, gain=1.0), sharing, **{"lr": 1e-2, "max_grad_norm": 1e9} | settings)


def loss_of(network: nn.Module, scale: float = 1.0) -> Tensor:
    y: Tensor = network(draw(7, N, IN))
    return scale * (y * draw(7, N, OUT, seed=1)).sum()


def gradients(network: nn.Module) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]


def norm(parts: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float(part.square().sum()) for part in parts))


def values(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


@pytest.mark.parametrize(
    ("decay", "env_steps", "total", "share"),
    [
        ("linear", 0, TOTAL, 1.0),
        ("linear", 500, TOTAL, 1 - 0.5 / 1.02),
        ("linear", 1000, TOTAL, 1 - 1 / 1.02),
        ("linear", 1020, TOTAL, 0.0),
        ("linear", 5000, TOTAL, 0.0),
        ("linear", 5000, math.inf, 1.0),
        ("none", 500, TOTAL, 1.0),
        ("none", 5000, TOTAL, 1.0),
    ],
)
def test_the_rate_is_a_function_of_the_clock(decay: str, env_steps: int, total: float, share: float) -> None:
    optimiser = make(decay=decay, others=[nn.Parameter(torch.ones(2))])
    optimiser.anneal(Clock(9, 900, TOTAL))  # what was set before does not count
    optimiser.anneal(Clock(3, env_steps, total))
    rates = [group["lr"] for group in optimiser.adam.param_groups]
    assert rates == pytest.approx([1e-2 * share] * 2, abs=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_gradients_are_clipped_together_and_their_norm_before_is_told(scale: float) -> None:
    other = nn.Parameter(torch.ones(IN))
    optimiser = make(max_grad_norm=10.0, others=[other])
    reference = copy.deepcopy(optimiser.network)
    told = optimiser.step(loss_of(optimiser.network, scale) + scale * (other * draw(IN)).sum())
    loss_of(reference, scale).backward()
    whole = [*gradients(reference), scale * draw(IN)]
    assert other.grad is not None
    clipped = [*gradients(optimiser.network), other.grad]
    assert float(told["train/net_grad_norm"]) == pytest.approx(norm(whole), rel=1e-5)
    for ours, theirs in zip(clipped, whole, strict=True):
        torch.testing.assert_close(ours, theirs * min(1.0, 10.0 / norm(whole)), rtol=1e-4, atol=1e-6)


def test_others_are_trained_too() -> None:
    other = nn.Parameter(torch.ones(IN))
    optimiser = make(others=[other])
    optimiser.step(loss_of(optimiser.network) + (other * draw(IN)).sum())
    torch.testing.assert_close(other.detach(), 1 - 1e-2 * draw(IN).sign(), rtol=1e-3, atol=0)  # Adam's first step


@pytest.mark.parametrize("stale", [1e3, math.nan])
def test_gradients_that_others_left_behind_do_not_count(stale: float) -> None:
    usual, fed = make(), make()
    for parameter in fed.network.parameters():
        parameter.grad = torch.full_like(parameter, stale)
    before = values(usual.network)
    for optimiser in (usual, fed):
        optimiser.step(loss_of(optimiser.network))
    assert all(torch.equal(a, b) for a, b in zip(values(usual.network), values(fed.network), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(values(usual.network), before, strict=True))


def test_a_loss_that_is_no_scalar_is_stepped_on_by_its_gradient() -> None:
    by_gradient, by_sum = make(), make()
    by_gradient.step(by_gradient.network(draw(7, N, IN)), gradient=draw(7, N, OUT, seed=1))
    by_sum.step(loss_of(by_sum.network))
    for ours, theirs in zip(values(by_gradient.network), values(by_sum.network), strict=True):
        torch.testing.assert_close(ours, theirs)


def masked(**settings: Any) -> Optimiser:
    config = KaleidoscopeConfig(threshold_bias=0.5, threshold_scale=2.0, reset_interval=100, reset_probability=1.0)
    sharing = KaleidoscopeSharing(config, range(N), generator())
    return Optimiser("net", sharing.linear(IN, OUT, gain=1.0), sharing, **{"lr": 1e-2, "max_grad_norm": 1e9} | settings)


def test_sharings_term_is_stepped_on_too_where_there_is_a_main_loss() -> None:
    with_term, without, reference = masked(), masked(), masked()
    main_loss = torch.tensor(-2.5)
    told = with_term.step(loss_of(with_term.network), main_loss=main_loss)
    assert set(told) == {"train/net_grad_norm", "sharing/net_diversity", "sharing/net_coefficient"}
    assert set(without.step(loss_of(without.network))) == {"train/net_grad_norm"}
    term, _ = reference.sharing.loss(reference.network, main_loss)
    (loss_of(reference.network) + term).backward()
    for ours, theirs in zip(gradients(with_term.network), gradients(reference.network), strict=True):
        torch.testing.assert_close(ours, theirs)
    thresholds = [list(o.network.parameters())[1].grad for o in (with_term, without)]
    assert not torch.allclose(*thresholds)  # type: ignore[arg-type]


def test_after_an_update_dead_weights_are_reset_and_their_moments_forgotten() -> None:
    optimiser = masked()
    optimiser.step(loss_of(optimiser.network))
    early = optimiser.after_update(Clock(0, 50, math.inf), generator())
    late = optimiser.after_update(Clock(1, 150, math.inf), generator())
    assert "sharing/net_reset_weights" not in early and late["sharing/net_reset_weights"] > 0
    assert {"sharing/net_sparsity", "sharing/net_mask_difference"} <= set(early)
    weight = next(iter(optimiser.network.parameters()))
    assert int((optimiser.adam.state[weight]["exp_avg"] == 0).sum()) >= late["sharing/net_reset_weights"]


class Halving(Processes):
    """As if the other of two processes had no gradient."""

    def mean_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad *= 0.5


def test_gradients_are_averaged_over_processes_before_they_are_clipped() -> None:
    alone, of_two, clipped = make(), make(processes=Halving()), make(processes=Halving(), max_grad_norm=1.0)
    own, mean, again = (float(o.step(loss_of(o.network))["train/net_grad_norm"]) for o in (alone, of_two, clipped))
    assert mean == again == pytest.approx(own / 2)
    assert norm(gradients(clipped.network)) == pytest.approx(1.0, rel=1e-4)


def test_a_restored_optimiser_makes_the_same_next_step() -> None:
    saved, restored = masked(), masked()
    for _ in range(3):
        saved.step(loss_of(saved.network), main_loss=torch.tensor(1.0))
    restored.network.load_state_dict(saved.network.state_dict())
    restored.load_state_dict(copy.deepcopy(saved.state_dict()))
    told = [o.step(loss_of(o.network), main_loss=torch.tensor(3.0)) for o in (saved, restored)]
    assert told[0] == told[1]
    assert all(torch.equal(a, b) for a, b in zip(values(saved.network), values(restored.network), strict=True))
