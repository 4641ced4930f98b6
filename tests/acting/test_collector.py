"""Are trials collected as they were lived: successors, restarts, beliefs, and nobody told what others saw?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from envs.core import EnvSpec, Observation, Scene, StepResult
from mg2l_kalei.acting.collector import Held, Policy, Team, collect
from mg2l_kalei.encoders import ENCODERS
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.learners import LEARNERS
from mg2l_kalei.sharing import SHARINGS
from mg2l_kalei.types import ActionSample, Rollout, TaskLatent, Transition
from tests.small_systems import SPECS, as_contexts, draw, generator, make_encoder, make_learner, random_rollout

SPEC = EnvSpec(n_agents=2, obs_dim=3, state_dim=1, action_dim=2, is_discrete=False, episode_steps=9)
EPISODE_STEPS = torch.tensor([2, 3, 5])  # of each row; even episodes terminate, odd ones run out of time
T, B, N = 7, len(EPISODE_STEPS), SPEC.n_agents


class Clock:
    """An environment that shows each agent (task, episodes before this one, steps in it)."""

    spec = SPEC

    def __init__(self) -> None:
        self.task = self.episode = self.step_number = torch.zeros(B, dtype=torch.int64)

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        self.episode = torch.zeros(B, dtype=torch.int64) if where is None else self.episode + where
        self.step_number = torch.zeros_like(tasks) if where is None else self.step_number.masked_fill(where, 0)
        self.task = tasks
        return Observation(*self._views(), None, torch.ones(B, N, dtype=torch.bool))

    def step(self, action: Tensor) -> StepResult:
        self.step_number = self.step_number + 1
        ended, is_even = self.step_number == EPISODE_STEPS, self.episode % 2 == 0
        obs, state = self._views()
        alive = torch.ones(B, N, dtype=torch.bool)
        return StepResult(obs, state, obs[..., 2], ended & is_even, ended & ~is_even, None, alive)

    def scene(self, row: int) -> Scene:
        return Scene((), -1.0, 1.0)

    def _views(self) -> tuple[Tensor, Tensor]:
        shown = torch.stack([self.task, self.episode, self.step_number], dim=-1).float()
        return shown[:, None].repeat(1, N, 1), shown[:, :1]


class Leaving(Clock):
    """A clock that agent 1 leaves in the first step of an episode."""

    def step(self, action: Tensor) -> StepResult:
        result = super().step(action)
        result.alive[:, 1] = False
        return result


class Counter(nn.Module):
    """A policy whose recurrent state counts its steps since the episode's start, from 100; it acts out the count."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = nn.Module()
        self.seen: list[tuple[Tensor, Tensor]] = []  # obs and latent of each call

    def initial_memory(self, n_rows: int) -> Tensor | None:
        return torch.full((n_rows, N, 1), 100.0)

    def act(
        self,
        obs: Tensor,
        legal: Tensor | None,
        local_latent: Tensor,
        recurrent_state: Tensor | None,
        generator: torch.Generator,
        *,
        explore: bool,
    ) -> ActionSample:
        assert recurrent_state is not None
        self.seen.append((obs, local_latent))
        return ActionSample(recurrent_state.expand(-1, -1, 2).clone(), local_latent[..., 0] - 0.5, recurrent_state + 1)


class Memory(TaskEncoder):
    """An encoder whose belief is how many transitions there were, and whose latent is that number."""

    global_dim = local_dim = 1

    def prior(self, task: Tensor) -> Tensor:
        return torch.zeros(len(task))

    def observe(self, belief: Tensor, transition: Transition) -> Tensor:
        return belief + 1

    def latent(self, belief: Tensor, *, sample: bool = False, generator: torch.Generator | None = None) -> TaskLatent:
        return TaskLatent(belief[:, None], belief[:, None, None].expand(-1, N, 1))

    def latents(self, rollout: Rollout) -> TaskLatent:
        raise NotImplementedError


TASK = torch.tensor([4, 5, 6])


@pytest.fixture
def policy() -> Counter:
    return Counter()


@pytest.fixture
def team(policy: Counter) -> Team:
    return Team(policy, Memory(), generator())


def play(team: Team, **settings: Any) -> Rollout:
    return collect(Clock(), team, TASK, T, explore=True, **settings)


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


def test_a_recurrent_state_restarts_with_each_episode(team: Team) -> None:
    for _ in range(2):
        rollout = play(team)
        assert torch.equal(rollout.steps.action[..., 0], 100 + rollout.steps.obs[..., 2])
        assert rollout.acting is not None and rollout.memory is not None
        assert torch.equal(rollout.memory[..., 0], 100 + rollout.steps.obs[..., 2])


def test_what_is_stored_is_what_was_seen_and_acted_on(team: Team, policy: Counter) -> None:
    rollout = play(team)
    for t, (obs, local) in enumerate(policy.seen):
        assert torch.equal(rollout.steps.obs[t], obs) and torch.equal(rollout.latent[t], local)
    assert rollout.acting is not None
    assert torch.equal(rollout.log_prob, rollout.latent[..., 0] - 0.5)


def test_a_held_latent_is_acted_on_throughout_and_its_contexts_are_kept(team: Team) -> None:
    latent, contexts = draw(B, N, 1), as_contexts(random_rollout(n_rows=B))
    rollout = play(team, held=Held(latent, contexts))
    assert (rollout.latent == latent).all()
    assert rollout.contexts is contexts
    assert play(team).contexts is None
    assert (play(team).latent[-1] == T - 1).all()


# --- with real learners and encoders ----------------------------------------------------------------------------------


def actions(policy: Policy, encoder: TaskEncoder, rollout: Rollout, *, explore: bool) -> Tensor:
    """What a team does that sees the rollout's observations and lives through its transitions: (T + 1, B, N, ...)."""
    team = Team(policy, encoder, generator())
    team.begin(rollout.task)
    acted = []
    for t in range(len(rollout.steps.reward)):
        acted.append(team.act(rollout.steps.obs[t], explore=explore).action)
        team.observe(Transition(*(field[t] for field in rollout.transition)))
    acted.append(team.act(rollout.steps.next_obs[-1], explore=explore).action)
    return torch.stack(acted)


@pytest.mark.parametrize("explore", [False, True], ids=["mode", "sampled"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_execution_is_decentralised(encoder: str, learner: str, sharing: str, spec: EnvSpec, explore: bool) -> None:
    """What agent 1 sees, does and is paid changes what agent 1 does, and what nobody else does."""
    lived, other = random_rollout(spec, n_rows=8), random_rollout(spec, n_rows=8, seed=1)
    changed = {name: field.clone() for name, field in lived.transition._asdict().items()}
    for name, field in changed.items():
        field[:, :, 1] = getattr(other, name)[:, :, 1]
    mind = make_encoder(encoder, spec)
    body = make_learner(mind, spec, kind=learner, sharing=sharing)
    sharpen(body.actor)
    before, after = (actions(body, mind, rollout, explore=explore) for rollout in (lived, lived._replace(**changed)))
    assert torch.equal(before[:, :, [0, 2]], after[:, :, [0, 2]])
    assert not torch.equal(before[:, :, 1], after[:, :, 1])


@pytest.mark.parametrize("sharing", SHARINGS)
def test_what_an_agent_lived_through_changes_what_it_does(sharing: str) -> None:
    """The same last observation after another history: only the latent can tell."""
    spec = SPECS["continuous"]
    lived = random_rollout(spec)
    other = random_rollout(spec, seed=1)._replace(next_obs=lived.steps.next_obs)
    mind = make_encoder("mg2l", spec)
    body = make_learner(mind, spec, sharing=sharing)
    sharpen(body.actor)
    first, second = (actions(body, mind, rollout, explore=False)[-1] for rollout in (lived, other))
    assert (first != second).any(-1).all()


def sharpen(actor: nn.Module) -> None:
    """Make the modes of an untrained actor, whose last layer is tiny, depend visibly on its input."""
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.add_(0.3 * draw(*parameter.shape, seed=parameter.numel()))


@pytest.mark.parametrize("actions", SPECS)
def test_agents_that_have_left_do_nothing(actions: str) -> None:
    """Or what they happened to draw would move the task latents of those who stay."""
    spec = SPECS[actions]._replace(n_agents=N, obs_dim=SPEC.obs_dim, state_dim=SPEC.state_dim)
    encoder = make_encoder("mg2l", spec)
    team = Team(make_learner(encoder, spec), encoder, generator())
    rollout = collect(Leaving(), team, torch.arange(B), T, explore=True)
    assert rollout.steps.alive[:, :, 0].all() and not rollout.steps.alive[1, :, 1].any()
    assert (rollout.steps.action[~rollout.steps.alive] == 0).all() and (
        rollout.steps.action[rollout.steps.alive] != 0
    ).any()
