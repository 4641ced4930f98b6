"""Does MATD3 find known optima, and the values that theory says?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from envs.core import EnvSpec
from mg2l_kalei.learners.matd3 import Matd3
from mg2l_kalei.types import Rollout, Step
from tests.learners.test_matd3 import learn, make_learner
from tests.small_systems import generator, random_rollout

Paid = Callable[[Tensor, Tensor, Tensor], list[Tensor]]  # by what is seen, and what both do

PAIR = EnvSpec(n_agents=2, obs_dim=1, state_dim=1, action_dim=1, is_discrete=False, episode_steps=1)
TEAM = PAIR._replace(shared_reward=True)
QUICK: dict[str, Any] = {
    "actor_lr": 3e-3,
    "critic_lr": 1e-2,
    "gamma": 0.5,
    "tau": 0.05,
    "updates_per_step": 0.5,
    "batch": 64,
    "activation": "tanh",
}


def game(spec: EnvSpec, paid: Paid) -> Rollout:
    """1,024 games of one step: a number in [-1, 1] is seen by both, who act at random; ``paid(seen, a, b)``."""
    rollout = random_rollout(spec, n_steps=1, n_rows=1024)
    seen, actions = (2 * torch.rand(1, 1024, n, generator=generator(n)) - 1 for n in (1, 2))
    reward = torch.stack(paid(seen[..., 0], *actions.unbind(-1)), dim=-1)
    over = torch.ones(1, 1024, dtype=torch.bool)
    steps = rollout.steps._replace(
        obs=seen.unsqueeze(-2).expand(-1, -1, 2, -1),
        state=seen,
        action=actions.unsqueeze(-1),
        reward=reward,
        terminated=over,
        truncated=~over,
    )
    return rollout._replace(steps=steps)


@torch.no_grad()
def answers(learner: Matd3) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers that may be seen, and what each agent does then: (M,)."""
    seen = torch.linspace(-0.8, 0.8, 9)
    obs = seen[:, None, None].expand(-1, 2, -1)
    action = learner.act(obs, None, torch.zeros(9, 2, 0), None, generator(), explore=None).action
    return seen, action[:, 0, 0], action[:, 1, 0]


@pytest.mark.parametrize("critic_sharing", ["independent", "kaleidoscope"])
def test_a_team_finds_the_best_pair_of_actions(critic_sharing: str) -> None:
    """a + b should be what is seen, and a - b be 0.6: neither knows its part without the other's."""
    learner = make_learner(TEAM, critic_sharing=critic_sharing, critic_threshold_bias=3.0, **QUICK)

    def paid(seen: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
        return [-(a + b - seen).square() - (a - b - 0.6).square()] * 2

    learn(learner, game(TEAM, paid))
    seen, a, b = answers(learner)
    assert float((a + b - seen).abs().max()) < 0.15 and float((a - b - 0.6).abs().max()) < 0.15


def test_agents_with_rewards_of_their_own_do_not_act_for_others() -> None:
    """What agent 0 does is worth five times as much to agent 1 as to itself, the other way."""
    learner = make_learner(PAIR, **QUICK)

    def paid(seen: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
        return [-(a - 0.5).square(), -(b + 0.5 * seen).square() - 5 * a]

    learn(learner, game(PAIR, paid))
    seen, a, b = answers(learner)
    assert float((a - 0.5).abs().max()) < 0.15 and float((b + 0.5 * seen).abs().max()) < 0.15


@pytest.mark.parametrize(
    ("ends", "n_step", "worth"),
    [("truncated", 1, 2.0), ("truncated", 3, 2.0), ("terminated", 1, 1.6), ("terminated", 3, 48 / 31)],
)
def test_a_reward_of_one_in_each_step_is_worth_what_it_sums_to(ends: str, n_step: int, worth: float) -> None:
    """Where every step looks alike, and actors do not move: 1 / (1 - gamma) = 2 if time ends episodes of four steps.

    If the task does, v = 1 + (3 / 4) v / 2; by three steps, v is the mean of 1.75 + v / 8, 1.75, 1.5 and 1.
    """
    learner = make_learner(
        **QUICK | {"n_step": n_step, "target_noise": 0.0, "updates_per_step": 2.0, "actor_lr": 1e-12}
    )
    steps = random_rollout(n_steps=8, n_rows=16).steps
    over, never = steps.truncated, torch.zeros_like(steps.truncated)
    alike = {name: torch.zeros_like(getattr(steps, name)) for name in Step._fields if "obs" in name or "state" in name}
    alike |= {"action": torch.zeros_like(steps.action), "reward": torch.ones_like(steps.reward)}
    steps = steps._replace(**alike | {"terminated": never, "truncated": never} | {ends: over})
    learn(learner, random_rollout()._replace(steps=steps, task=torch.zeros(16, dtype=torch.int64)))
    q = learner.critic(steps.state, torch.zeros(8, 16, 0), steps.action)
    assert float(q.detach().mean()) == pytest.approx(worth, abs=0.05)
