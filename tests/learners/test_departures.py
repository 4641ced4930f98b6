"""Does what agents that left their team did, or would have been paid, train anything?"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mg2l_kalei.types import Rollout
from tests.small_systems import acted_by, make_encoder, make_learner, random_rollout, update, with_steps


def weights_after(rollout: Rollout, misjudged: int | None = None, scale: str = "auto") -> dict[str, Tensor]:
    """Actor and critic after an update; ``misjudged``: the agent whose log-probabilities are wrong."""
    encoder = make_encoder("none")
    learner = make_learner(encoder, reward_scale=scale)
    rollout = acted_by(learner, encoder, rollout)
    if misjudged is not None:
        assert rollout.log_prob is not None
        rollout.log_prob[:, :, misjudged] += 1.0
    update(learner, encoder, rollout)
    networks = learner.networks.items()
    return {name: torch.cat([p.detach().flatten() for p in network.parameters()]) for name, network in networks}


def agent_2_leaves(step: int, paid_afterwards: float = 0.0, paid_in_its_last_step: float = 0.0) -> Rollout:
    """Noise, in which agent 2 leaves in ``step`` of a single episode; -1: it is not there at all."""
    rollout = random_rollout()
    alive = torch.ones_like(rollout.steps.alive)
    alive[step + 1 :, :, 2] = False
    next_alive = torch.ones_like(alive)
    next_alive[max(step, 0) :, :, 2] = False
    rollout.steps.reward[step + 1 :, :, 2] = paid_afterwards
    rollout.steps.reward[step, :, 2] += paid_in_its_last_step
    no_end = torch.zeros_like(rollout.steps.truncated)
    return with_steps(rollout, alive=alive, next_alive=next_alive, truncated=no_end)


every_scale = pytest.mark.parametrize("scale", ["team", "agent"])


@every_scale
def test_what_departed_agents_did_does_not_train_the_actors(scale: str) -> None:
    agents = (None, 2, 1)
    right, departed_wrong, present_wrong = (weights_after(agent_2_leaves(-1), agent, scale) for agent in agents)
    assert torch.equal(right["actor"], departed_wrong["actor"])
    assert not torch.equal(right["actor"], present_wrong["actor"])


@every_scale
def test_what_follows_a_departure_trains_nobody_and_what_came_before_does(scale: str) -> None:
    usual = weights_after(agent_2_leaves(4), scale=scale)
    paid_when_gone = weights_after(agent_2_leaves(4, paid_afterwards=1e30), scale=scale)
    paid_before = weights_after(agent_2_leaves(4, paid_in_its_last_step=100.0), scale=scale)
    for network, weights in usual.items():
        assert torch.equal(weights, paid_when_gone[network]), network
        assert not torch.equal(weights, paid_before[network]), network


@every_scale
@pytest.mark.parametrize("memory", ["none", "trial"])
def test_an_update_on_a_single_step_of_a_single_living_agent_is_finite(memory: str, scale: str) -> None:
    """There is no deviation to divide by, and nothing to explain."""
    encoder = make_encoder("none")
    learner = make_learner(encoder, reward_scale=scale, memory=memory, n_epochs=3)
    rollout = random_rollout(n_steps=1, n_rows=1)
    rollout.steps.alive[:] = torch.tensor([True, False, False])
    for i in range(2):
        metrics = update(learner, encoder, acted_by(learner, encoder, rollout), 36 * (i + 1))
        assert all(torch.as_tensor(value).isfinite() for value in metrics.values()), metrics
    for network in learner.networks.values():
        assert all(tensor.isfinite().all() for tensor in network.state_dict().values())


def test_a_rollout_in_which_nobody_is_there_changes_no_actor_and_is_finite() -> None:
    rollout = random_rollout()
    nobody = torch.zeros_like(rollout.steps.alive)
    encoder = make_encoder("none")
    learner = make_learner(encoder)
    rollout = acted_by(learner, encoder, with_steps(rollout, alive=nobody, next_alive=nobody))
    before = [parameter.detach().clone() for parameter in learner.actor.parameters()]
    metrics = update(learner, encoder, rollout)
    assert all(torch.as_tensor(value).isfinite() for value in metrics.values()), metrics
    assert all(map(torch.equal, before, learner.actor.parameters()))
