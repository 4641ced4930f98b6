"""Are trials collected as they were lived: successors, restarts, beliefs, and nobody told what others saw?"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from envs.core import EnvSpec
from mg2l_kalei.acting.collector import Held, Policy, Team, collect
from mg2l_kalei.encoders import ENCODERS
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.learners import LEARNERS
from mg2l_kalei.networks import NetworkConfig, Recall
from mg2l_kalei.types import ActionSample, Clock, Rollout, TaskLatent, Transition
from tests.acting.watch import SPEC, B, N, T, Watch, sharpen
from tests.representatives import MAIN_SHARINGS
from tests.small_systems import (
    SPECS,
    as_contexts,
    at,
    can_learn,
    draw,
    generator,
    make_encoder,
    make_learner,
    random_rollout,
    with_steps,
)


class Counter:
    """A policy whose memory counts its steps since the episode's start, from 100; it acts out the count."""

    def __init__(self, memory: str = "episode") -> None:
        self.recall = Recall(NetworkConfig(memory=memory), SPEC)
        self.seen: list[tuple[Tensor, Tensor]] = []  # obs and latent of each call

    def frozen(self) -> AbstractContextManager[None]:
        return nullcontext()

    def initial_memory(self, n_rows: int) -> Tensor | None:
        return torch.full((n_rows, N, 1), 100.0)

    def act(
        self,
        obs: Tensor,
        legal: Tensor | None,
        latent: Tensor,
        memory: Tensor | None,
        generator: torch.Generator,
        *,
        explore: Clock | None,
    ) -> ActionSample:
        assert memory is not None
        self.seen.append((obs, latent))
        return ActionSample(memory.expand(-1, -1, 2).clone(), latent[..., 0] - 0.5, memory + 1)


class Tally(TaskEncoder):
    """An encoder whose belief is how many transitions there were, and whose latent is that number."""

    global_dim = local_dim = 1

    def prior(self, task: Tensor) -> Tensor:
        return torch.zeros(len(task))

    def observe(self, belief: Tensor, transition: Transition) -> Tensor:
        return belief + 1

    def latent(self, belief: Tensor, *, sample: bool = False, generator: torch.Generator | None = None) -> TaskLatent:
        return TaskLatent(belief[:, None], belief[:, None, None].expand(-1, N, 1))

    def latents(
        self, rollout: Rollout, *, sample: bool = False, generator: torch.Generator | None = None
    ) -> TaskLatent:
        raise NotImplementedError


TASK = torch.tensor([4, 5, 6])


@pytest.fixture
def policy() -> Counter:
    return Counter()


@pytest.fixture
def team(policy: Counter) -> Team:
    return Team(policy, Tally(), generator())


def play(team: Team, **settings: Any) -> Rollout:
    return collect(Watch(), team, TASK, T, explore=at(0), **settings)


def test_steps_and_episodes_are_counted_as_by_hand(team: Team) -> None:
    rollout = play(team)
    expected = {0: [0, 1, 0, 1, 0, 1, 0], 1: [0, 1, 2, 0, 1, 2, 0], 2: [0, 1, 2, 3, 4, 0, 1]}
    for row, steps in expected.items():
        assert rollout.steps.obs[:, row, 0, 2].tolist() == steps
        assert rollout.steps.episode_start[:, row].tolist() == [step == 0 for step in steps]
        assert (rollout.steps.obs[:, row, :, 0] == TASK[row]).all() and (rollout.steps.state[:, row] == TASK[row]).all()
    assert torch.equal(rollout.task, TASK)


def test_the_successor_is_the_true_one_and_not_the_restarted_one(team: Team) -> None:
    rollout = play(team)
    assert torch.equal(rollout.steps.next_obs[..., 2], rollout.steps.obs[..., 2] + 1)
    assert torch.equal(rollout.steps.next_obs[..., 1], rollout.steps.obs[..., 1])
    assert torch.equal(rollout.steps.reward, rollout.steps.next_obs[..., 2])
    goes_on = ~(rollout.steps.terminated | rollout.steps.truncated)[:-1]
    assert torch.equal(rollout.steps.obs[1:][goes_on], rollout.steps.next_obs[:-1][goes_on])
    assert (rollout.steps.obs[1:][~goes_on] != rollout.steps.next_obs[:-1][~goes_on]).any()


def test_ends_of_the_task_and_of_the_time_stay_apart(team: Team) -> None:
    rollout = play(team)
    assert rollout.steps.terminated.nonzero().tolist() == [[1, 0], [2, 1], [4, 2], [5, 0]]
    assert rollout.steps.truncated.nonzero().tolist() == [[3, 0], [5, 1]]


def test_a_belief_is_carried_across_episodes_but_not_across_trials(team: Team) -> None:
    for _ in range(2):
        rollout = play(team)
        latent = rollout.latent.flatten(1)
        assert torch.equal(latent[:, 0], torch.arange(T).float()) and (latent == latent[:, :1]).all()


def test_a_memory_restarts_with_each_episode(team: Team) -> None:
    for _ in range(2):
        rollout = play(team)
        assert torch.equal(rollout.steps.action[..., 0], 100 + rollout.steps.obs[..., 2])
        assert rollout.memory is not None
        assert torch.equal(rollout.memory[..., 0], 100 + rollout.steps.obs[..., 2])


def test_what_is_stored_is_what_was_seen_and_acted_on(team: Team, policy: Counter) -> None:
    rollout = play(team)
    for t, (obs, local) in enumerate(policy.seen):
        assert torch.equal(rollout.steps.obs[t], obs) and torch.equal(rollout.latent[t], local)
    assert rollout.log_prob is not None
    assert torch.equal(rollout.log_prob, rollout.latent[..., 0] - 0.5)


def test_a_held_latent_is_acted_on_throughout_and_its_contexts_are_kept(team: Team) -> None:
    latent, contexts = draw(B, N, 1), as_contexts(random_rollout(n_rows=B))
    rollout = play(team, held=Held(latent, contexts))
    assert (rollout.latent == latent).all()
    assert rollout.contexts is contexts
    assert play(team).contexts is None
    assert (play(team).latent[-1] == T - 1).all()


# --- with real learners and encoders ----------------------------------------------------------------------------------


def actions(policy: Policy, encoder: TaskEncoder, rollout: Rollout, *, explore: Clock | None) -> Tensor:
    """What a team does that sees the rollout's observations and lives through its transitions: (T + 1, B, N, ...)."""
    team = Team(policy, encoder, generator())
    team.begin(rollout.task)
    acted = []
    for t in range(len(rollout.steps.reward)):
        acted.append(team.act(rollout.steps.obs[t], explore=explore).action)
        team.observe(Transition(*(field[t] for field in rollout.transition)))
    acted.append(team.act(rollout.steps.next_obs[-1], explore=explore).action)
    return torch.stack(acted)


LEARNERS_ON = [
    pytest.param(kind, spec, id=f"{kind}-{name}")
    for kind in LEARNERS
    for name, spec in SPECS.items()
    if can_learn(kind, spec)
]


@pytest.mark.parametrize("explore", [None, at(10**6)], ids=["mode", "sampled"])  # by then, schedules leave little noise
@pytest.mark.parametrize("sharing", MAIN_SHARINGS)
@pytest.mark.parametrize(("learner", "spec"), LEARNERS_ON)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_execution_is_decentralised(
    encoder: str, learner: str, sharing: str, spec: EnvSpec, explore: Clock | None
) -> None:
    """What agent 1 sees, does and is paid changes what agent 1 does, and what nobody else does."""
    lived, other = random_rollout(spec, n_rows=8), random_rollout(spec, n_rows=8, seed=1)
    changed = {name: field.clone() for name, field in lived.transition._asdict().items()}
    for name in ("obs", "action", "reward", "next_obs"):
        changed[name][:, :, 1] = getattr(other.steps, name)[:, :, 1]
    mind = make_encoder(encoder, spec)
    body = make_learner(mind, spec, kind=learner, sharing=sharing)
    sharpen(body.actor)
    before, after = (actions(body, mind, rollout, explore=explore) for rollout in (lived, with_steps(lived, **changed)))
    assert torch.equal(before[:, :, [0, 2]], after[:, :, [0, 2]])
    assert not torch.equal(before[:, :, 1], after[:, :, 1])


@pytest.mark.parametrize("sharing", MAIN_SHARINGS)
def test_what_an_agent_lived_through_changes_what_it_does(sharing: str) -> None:
    """The same last observation after another history: only the latent can tell."""
    spec = SPECS["continuous"]
    lived = random_rollout(spec)
    other = with_steps(random_rollout(spec, seed=1), next_obs=lived.steps.next_obs)
    mind = make_encoder("mg2l", spec)
    body = make_learner(mind, spec, sharing=sharing)
    sharpen(body.actor)
    first, second = (actions(body, mind, rollout, explore=None)[-1] for rollout in (lived, other))
    assert (first != second).any(-1).all()


def test_probabilities_and_memories_are_kept_where_something_is_to_be_learned_from_them() -> None:
    spec = SPECS["continuous"]._replace(n_agents=N, obs_dim=SPEC.obs_dim, state_dim=SPEC.state_dim)
    encoder = make_encoder("none", spec)
    team = Team(make_learner(encoder, spec, memory="episode"), encoder, generator())
    explored, best = (collect(Watch(), team, TASK, T, explore=explore) for explore in (at(0), None))
    assert explored.log_prob is not None and explored.memory is not None
    assert explored.log_prob.shape == (T, B, N) and explored.memory.shape[:3] == (T, B, N)
    assert best.log_prob is None and best.memory is None


def test_a_memory_that_lasts_for_the_trial_goes_on_counting_and_is_empty_in_the_next_trial() -> None:
    team = Team(Counter("trial"), Tally(), generator())
    for _ in range(2):
        action = play(team).steps.action
        assert torch.equal(action, 100 + torch.arange(T).float()[:, None, None, None].expand_as(action))
