"""Do returns sum over the episode, or over all that is left of the trial, as told?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from envs.core import EnvSpec
from mg2l_kalei.learners.mappo import Mappo
from mg2l_kalei.losses.policy_gradient import Values, generalized_advantages, paid_together, within_the_trial
from mg2l_kalei.types import Rollout, Step
from tests.small_systems import (
    CONTINUOUS,
    acted_by,
    draw,
    make_encoder,
    make_learner,
    random_rollout,
    update,
    with_steps,
)

# Three rows of five steps, rewards 1, 2, 4, 8, 16; an episode ends with step 2 in rows 0 (the task) and 1 (time).
# Step 4 is the end of nothing in row 0, of the task in row 1, of time in row 2.
REWARD = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])[:, None, None].expand(5, 3, 1)
TERMINATED = torch.zeros(5, 3, dtype=torch.bool)
TERMINATED[2, 0] = TERMINATED[4, 1] = True
TRUNCATED = torch.zeros(5, 3, dtype=torch.bool)
TRUNCATED[2, 1] = TRUNCATED[4, 2] = True
ALIVE = torch.ones(5, 3, 1, dtype=torch.bool)


def lived(alive: Tensor = ALIVE, next_alive: Tensor = ALIVE) -> Step:
    """The steps of the one agent, or of none."""
    steps = random_rollout(CONTINUOUS._replace(n_agents=1), n_steps=5, n_rows=3).steps
    return steps._replace(terminated=TERMINATED, truncated=TRUNCATED, alive=alive, next_alive=next_alive)


def advantages(values: Values, steps: Step | None = None, gae_lambda: float = 1.0) -> Tensor:
    steps = lived() if steps is None else steps
    values, ends = within_the_trial(values, steps, 0.5)
    reward = torch.where(steps.alive, REWARD, 0.0)
    return generalized_advantages(reward, values, *ends, gamma=0.5, gae_lambda=gae_lambda)


def test_what_is_left_of_the_trial_counts_across_its_episodes_by_hand() -> None:
    """1 + 2/2 + 4/4 + 8/8 + 16/16 = 5, and where the trial is cut off, 100/32 of what would come."""
    values = Values(torch.zeros(5, 3, 1), torch.full((5, 3, 1), 100.0))
    got = advantages(values)[..., 0]
    assert got[0].tolist() == [5 + 100 / 32, 5.0, 5 + 100 / 32]
    assert got[3].tolist() == [16 + 25.0, 16.0, 16 + 25.0]
    assert got[4].tolist() == [16 + 50.0, 16.0, 16 + 50.0]


def test_what_follows_a_step_within_the_trial_is_the_next_step_whatever_ends() -> None:
    value, next_value = draw(5, 3, 1), draw(5, 3, 1, seed=1)
    got = advantages(Values(value, next_value), gae_lambda=0.0)
    torch.testing.assert_close(got[:-1], REWARD[:-1] + 0.5 * value[1:] - value[:-1])
    goes_on = torch.tensor([1.0, 0.0, 1.0])[:, None]
    torch.testing.assert_close(got[-1], REWARD[-1] + 0.5 * goes_on * next_value[-1] - value[-1])


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
def test_an_agent_that_left_an_episode_is_back_in_the_next_and_nothing_between_counts(gae_lambda: float) -> None:
    """It acts in steps 0, 3 and 4: as if two steps had passed in which nothing was paid and nothing judged."""
    alive, next_alive = ALIVE.clone(), ALIVE.clone()
    alive[1:3] = next_alive[0:2] = next_alive[4] = False
    value = torch.tensor([3.0, 100.0, -7.0, 5.0, 2.0])[:, None, None].expand(5, 3, 1)
    values = Values(value, torch.full((5, 3, 1), 100.0))
    got = advantages(values, lived(alive, next_alive), gae_lambda)[..., 0]
    last = 16.0 - 2.0  # nothing follows: it has left
    fourth = 8.0 + 0.5 * 2.0 - 5.0 + 0.5 * gae_lambda * last
    first = 1.0 + 0.5**3 * 5.0 - 3.0 + (0.5 * gae_lambda) ** 3 * fourth
    torch.testing.assert_close(got[[0, 3, 4]], torch.tensor([first, fourth, last])[:, None].expand(3, 3))


def test_nothing_is_handed_back_to_who_has_left_for_good() -> None:
    """It acts in step 0 alone, and critics have a value of everybody, who is there or not."""
    alive, next_alive = ALIVE.clone(), torch.zeros_like(ALIVE)
    alive[1:] = False
    values = Values(torch.zeros(5, 3, 1), torch.full((5, 3, 1), 100.0))
    assert (advantages(values, lived(alive, next_alive))[0] == 1).all()


def test_who_leaves_a_team_that_is_paid_alike_is_credited_for_what_it_is_paid_then() -> None:
    """Two agents, of which one acts in step 0 alone: advantages of both are the same, where values are."""
    there = torch.ones(5, 3, 2, dtype=torch.bool)
    alive, next_alive = there.clone(), there.clone()
    alive[1:, :, 1] = next_alive[:, :, 1] = False
    one = lived()
    steps = one._replace(alive=alive, next_alive=next_alive, reward=torch.where(alive, REWARD, 1e9))
    values = [torch.where(there, draw(5, 3, 1, seed=seed), 1e9) for seed in (0, 1)]
    values[0][1:, :, 1] = values[1][:, :, 1] = 1e9  # which critics may say of who is gone
    own, team = paid_together(Values(values[0], values[1]), steps)
    ends = (team.terminated, team.truncated, team.next_alive)
    reward = torch.where(team.alive, team.reward, 0.0)
    got = generalized_advantages(reward, own, *ends, gamma=0.5, gae_lambda=0.7)
    torch.testing.assert_close(got[..., 1], got[..., 0])


def test_what_is_given_is_left_as_it_was() -> None:
    values, steps = Values(draw(5, 3, 1), draw(5, 3, 1, seed=1)), lived()
    given = [x.clone() for x in (*values, TERMINATED, TRUNCATED, ALIVE)]
    within_the_trial(values, steps, 0.5)
    assert all(map(torch.equal, given, (*values, TERMINATED, TRUNCATED, ALIVE)))


@pytest.mark.parametrize("horizon", ["episode", "trial"])
@pytest.mark.parametrize("is_shared", [False, True])
def test_mappo_credits_who_left_where_all_are_paid_alike(is_shared: bool, horizon: str) -> None:
    """Agent 2 leaves in step 4 of the one episode, and the team is paid in step 6."""
    rollout = random_rollout()
    alive, next_alive = (torch.ones_like(rollout.steps.alive) for _ in range(2))
    alive[5:, :, 2] = next_alive[4:, :, 2] = False
    nothing = torch.zeros_like(rollout.steps.reward)
    paid = nothing.clone()
    paid[6] = 10.0
    spec, no_end = CONTINUOUS._replace(shared_reward=is_shared), torch.zeros_like(rollout.steps.truncated)
    usual, credited = (
        targets(horizon, with_steps(rollout, reward=reward, alive=alive, next_alive=next_alive, truncated=no_end), spec)
        for reward in (nothing, paid)
    )
    gain = (credited - usual)[4]
    assert (gain[:, :2] > 1).all() and (gain[:, 2] > 1).all() == is_shared
    assert (gain[:, 2].abs() < 1e-3).all() != is_shared


def targets(horizon: str, rollout: Rollout, spec: EnvSpec = CONTINUOUS) -> Tensor:
    """Returns (T, B, N) that a learner takes a rollout's steps to have, in units of reward."""
    encoder = make_encoder("none", spec)
    learner = make_learner(encoder, spec, horizon=horizon)
    assert isinstance(learner, Mappo)
    rollout = acted_by(learner, encoder, rollout)
    T, B, N = rollout.steps.reward.shape
    samples, _ = learner._prepare(rollout, rollout.steps, torch.zeros(T + 1, B, 0))
    return learner.critic.moments.denormalise(samples.returns).view(T, B, N)


@pytest.mark.parametrize(("horizon", "reaches_back"), [("episode", False), ("trial", True)])
def test_learners_take_the_horizon_that_they_are_told(horizon: str, reaches_back: bool) -> None:
    rollout = random_rollout()  # episodes of 4 steps, 9 steps
    reward = rollout.steps.reward.clone()
    reward[4:8] += 10
    usual, paid = targets(horizon, rollout), targets(horizon, with_steps(rollout, reward=reward))
    gain = paid - usual
    assert (gain[4:7] > 1).all() and gain[8].abs().max() < 1e-3
    assert (gain[:4] > 1).all() == reaches_back and (gain[:4].abs() < 1e-3).all() != reaches_back


@pytest.mark.parametrize("memory", ["none", "episode", "trial"])
def test_an_update_over_the_whole_trial_is_finite_with_any_memory(memory: str) -> None:
    settings: dict[str, Any] = {"horizon": "trial", "memory": memory, "inputs": ("reward",), "chunk_length": 4}
    encoder = make_encoder("mg2l")
    learner = make_learner(encoder, **settings)
    metrics = update(learner, encoder, acted_by(learner, encoder, random_rollout()))
    assert all(torch.as_tensor(value).isfinite() for value in metrics.values())
    assert float(metrics["train/first_ratio_error"]) <= 1e-5
