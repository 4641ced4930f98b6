"""Does what agents that left their team did, or would have been paid, train anything?"""

from __future__ import annotations

import torch
from torch import Tensor

from mg2l_kalei.types import Rollout
from tests.small_systems import acted_by, make_encoder, make_learner, random_rollout, update, with_steps


def weights_after(rollout: Rollout, misjudged: int | None = None) -> dict[str, Tensor]:
    """Actor and critic after an update; ``misjudged``: the agent whose log-probabilities are wrong."""
    encoder = make_encoder("none")
    learner = make_learner(encoder)
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


def test_what_departed_agents_did_does_not_train_the_actors() -> None:
    right, departed_wrong, present_wrong = (weights_after(agent_2_leaves(-1), agent) for agent in (None, 2, 1))
    assert torch.equal(right["actor"], departed_wrong["actor"])
    assert not torch.equal(right["actor"], present_wrong["actor"])


def test_what_follows_a_departure_trains_nobody_and_what_came_before_does() -> None:
    usual = weights_after(agent_2_leaves(4))
    paid_when_gone = weights_after(agent_2_leaves(4, paid_afterwards=100.0))
    paid_before = weights_after(agent_2_leaves(4, paid_in_its_last_step=100.0))
    for network, weights in usual.items():
        assert torch.equal(weights, paid_when_gone[network]), network
        assert not torch.equal(weights, paid_before[network]), network
