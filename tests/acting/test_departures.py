"""Does what agents that have left happened to draw change anything for those who stay?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mg2l_kalei.acting.collector import Team, collect
from mg2l_kalei.types import ActionSample
from tests.acting.watch import SPEC, B, Leaving, N, T, sharpen
from tests.small_systems import SPECS, at, generator, make_encoder, make_learner


@pytest.mark.parametrize("inputs", [(), ("action", "reward", "episode_start")], ids=["no recall", "recall"])
@pytest.mark.parametrize("memory", ["none", "episode", "trial"])
@pytest.mark.parametrize("actions", SPECS)
def test_what_agents_that_have_left_drew_changes_nothing_for_anyone(
    actions: str, memory: str, inputs: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for those who stay, and not for themselves once they are back."""
    spec = SPECS[actions]._replace(n_agents=N, obs_dim=SPEC.obs_dim, state_dim=SPEC.state_dim)
    encoder = make_encoder("mg2l", spec, second_order=True)
    learner = make_learner(encoder, spec, memory=memory, inputs=inputs)
    sharpen(learner.actor)
    right_act, rollouts = learner.act, []

    def other_act(obs: Tensor, *rest: Any, **named: Any) -> ActionSample:
        sample = right_act(obs, *rest, **named)
        sample.action[obs[:, 1, 2] > 0, 1] = 1 - sample.action[obs[:, 1, 2] > 0, 1].clamp(0, 1)  # it has left
        return sample

    for act in (right_act, other_act):
        monkeypatch.setattr(learner, "act", act)
        team = Team(learner, encoder, generator())
        rollouts.append(collect(Leaving(), team, torch.arange(B), T, explore=at(0)))
    usual, other = rollouts
    alive = usual.steps.alive
    assert alive[:, :, 0].all() and torch.equal(alive[:, :, 1], usual.steps.episode_start)
    assert (usual.steps.action != other.steps.action)[~alive].any()
    assert torch.equal(usual.steps.action[alive], other.steps.action[alive])
    assert usual.log_prob is not None and other.log_prob is not None
    assert torch.equal(usual.log_prob, other.log_prob)
    assert (usual.log_prob[~alive] == 0).all() and (usual.log_prob[alive] != 0).all()
    assert torch.equal(usual.latent, other.latent) and (usual.latent[1:, :, 0] != usual.latent[:-1, :, 0]).any()
