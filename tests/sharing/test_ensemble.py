"""Do critics under masks begin anew one by one, and nothing else with them?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mg2l_kalei.networks import GroupedMlp, NetworkConfig
from mg2l_kalei.sharing.ensemble import KaleidoscopeEnsemble
from mg2l_kalei.sharing.kaleidoscope import KaleidoscopeConfig
from mg2l_kalei.sharing.masked_linear import masked_layers
from mg2l_kalei.types import Clock
from tests.small_systems import draw, generator

CONFIG = KaleidoscopeConfig(threshold_bias=0.0, threshold_scale=20.0, reset_interval=100)


class Critics:
    """An ensemble of three that has made a step, and whose clock is set by hand."""

    def __init__(self) -> None:
        self.sharing = KaleidoscopeEnsemble(CONFIG, range(3), generator())
        self.network = GroupedMlp(self.sharing, 4, 2, NetworkConfig(hidden=(5,)))
        self.adam = torch.optim.Adam(self.sharing.parameter_groups(self.network), lr=0.1)
        self.network(draw(7, 3, 4)).square().sum().backward()
        self.adam.step()

    @property
    def thresholds(self) -> list[Tensor]:
        return [layer.thresholds.detach().clone() for layer in masked_layers(self.network)]

    @property
    def weights(self) -> list[Tensor]:
        return [layer.weight.detach().clone() for layer in masked_layers(self.network)]

    def after(self, env_steps: int, total: float = math.inf) -> tuple[float | Tensor | None, list[bool]]:
        """Who is said to begin anew, and whose thresholds changed in every layer."""
        before, weights = self.thresholds, self.weights
        metrics = self.sharing.on_env_steps(self.network, self.adam, Clock(0, env_steps, total), generator(env_steps))
        assert all(map(torch.equal, weights, self.weights))
        pairs = list(zip(before, self.thresholds, strict=True))
        return metrics.get("sharing/reset_member"), [all((a[i] != b[i]).all() for a, b in pairs) for i in range(3)]


def test_members_begin_anew_in_turn_and_none_in_the_last_interval() -> None:
    critics, nobody = Critics(), [False, False, False]
    assert critics.after(99) == (None, nobody)
    assert critics.after(100) == (0.0, [True, False, False])
    assert critics.after(199) == (None, nobody)
    assert critics.after(205) == (1.0, [False, True, False])
    assert critics.after(300) == (2.0, [False, False, True])
    assert critics.after(400) == (0.0, [True, False, False])
    assert critics.after(500, total=600) == (None, nobody)


def test_no_member_is_passed_over_where_intervals_are_shorter_than_rollouts() -> None:
    critics = Critics()
    assert [critics.after(env_steps)[0] for env_steps in (300, 600, 900, 1200)] == [0.0, 1.0, 2.0, 0.0]


def test_who_begins_anew_has_thresholds_as_at_first_and_no_momentum() -> None:
    critics = Critics()
    critics.after(100)
    for layer in masked_layers(critics.network):
        assert layer.thresholds[0].max() <= 0 and layer.thresholds[0].min() >= -20
        moment = critics.adam.state[layer.thresholds]["exp_avg"]
        assert (moment[0] == 0).all() and (moment[1:] != 0).any()


def test_turns_go_on_where_they_were_saved() -> None:
    saved, restored = Critics(), Critics()
    saved.after(100)
    restored.sharing.load_state_dict(saved.sharing.state_dict())
    assert restored.after(150) == (None, [False, False, False])
    assert restored.after(200)[0] == 1.0
    saved.after(900)  # of many intervals, the second
    restored.sharing.load_state_dict(saved.sharing.state_dict())
    assert restored.after(1000)[0] == 2.0
