"""Is what networks learn on what they were told when acting: the step before, and when it is forgotten?"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor

from envs.core import EnvSpec
from mg2l_kalei.acting.collector import Team, collect
from mg2l_kalei.networks import NetworkConfig, Recall
from mg2l_kalei.networks.config import INPUTS, MEMORY_SCOPES
from mg2l_kalei.types import ActionSample, Clock, Rollout
from tests.acting.watch import SPEC, B, Leaving, N, T
from tests.small_systems import at, generator, make_encoder

DISCRETE = SPEC._replace(is_discrete=True, action_dim=3)
TOLD = [(), ("action",), ("reward",), ("episode_start",), ("action", "reward"), INPUTS, INPUTS[::-1]]
every_memory = pytest.mark.parametrize("memory", MEMORY_SCOPES)
every_spec = pytest.mark.parametrize("spec", [SPEC, DISCRETE], ids=["continuous", "discrete"])
every_told = pytest.mark.parametrize("inputs", TOLD, ids=",".join)


class Recorder:
    """Acts at random, and notes what it is shown."""

    def __init__(self, spec: EnvSpec, memory: str, inputs: tuple[str, ...]) -> None:
        self.env_spec = spec
        self.recall = Recall(NetworkConfig(memory=memory, inputs=inputs), spec)
        self.seen: list[Tensor] = []

    def initial_memory(self, n_rows: int) -> Tensor | None:
        return None

    def frozen(self) -> AbstractContextManager[None]:
        return nullcontext()

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
        self.seen.append(obs)
        if self.env_spec.is_discrete:
            return ActionSample(torch.randint(self.env_spec.action_dim, (B, N), generator=generator))
        return ActionSample(torch.randn(B, N, self.env_spec.action_dim, generator=generator))


def played(recorder: Recorder) -> Rollout:
    """Rows of episodes of 2, 3 and 5 steps, which agent 1 leaves after its first step."""
    team = Team(recorder, make_encoder("none", recorder.env_spec), generator())
    return collect(Leaving(), team, torch.arange(B), T, explore=at(0))


def told_by_hand(recorder: Recorder, rollout: Rollout, t: int, row: int, agent: int) -> list[float]:
    """What an agent is told in step t beside its observation: of the step before, if there was one and it acted."""
    steps, recall = rollout.steps, recorder.recall
    start = bool(steps.episode_start[t, row])
    knows = t > 0 and (recall.lasts_for_the_trial or not start) and bool(steps.alive[t - 1, row, agent])
    told: list[float] = []
    if "action" in recall.inputs:
        action = steps.action[t - 1, row, agent]
        is_one_hot = recorder.env_spec.is_discrete
        done = [float(action == k) for k in range(recorder.env_spec.action_dim)] if is_one_hot else action.tolist()
        told += done if knows else [0.0] * recorder.env_spec.action_dim
    if "reward" in recall.inputs:
        told.append(float(steps.reward[t - 1, row, agent]) if knows else 0.0)
    return told + ([float(start)] if "episode_start" in recall.inputs else [])


@every_told
@every_memory
@every_spec
def test_a_sequence_is_told_what_was_told_step_by_step(spec: EnvSpec, memory: str, inputs: tuple[str, ...]) -> None:
    recorder = Recorder(spec, memory, inputs)
    for _ in range(2):  # nothing of a trial is told in the next
        recorder.seen.clear()
        rollout = played(recorder)
        extended = recorder.recall.extend(rollout.steps)
        assert torch.equal(torch.stack(recorder.seen), extended.obs)
        told = extended.obs[..., spec.obs_dim :]
        for t in range(T):
            for row in range(B):
                for agent in range(N):
                    expected = torch.tensor(told_by_hand(recorder, rollout, t, row, agent))
                    assert torch.equal(told[t, row, agent], expected), (t, row, agent)
    assert rollout.steps.episode_start[1:].any() and not rollout.steps.alive.all()


@every_told
@every_memory
@every_spec
def test_states_and_successors_are_told_the_same(spec: EnvSpec, memory: str, inputs: tuple[str, ...]) -> None:
    """All agents' parts stand in the state; a successor is told of its step, and starts no episode."""
    recorder = Recorder(spec, memory, inputs)
    rollout, seen = played(recorder), recorder.recall.spec
    extended = recorder.recall.extend(rollout.steps)
    assert extended.obs.shape == extended.next_obs.shape == (T, B, N, seen.obs_dim)
    assert extended.state.shape == extended.next_state.shape == (T, B, seen.state_dim)
    told, told_next = (x[..., spec.obs_dim :] for x in (extended.obs, extended.next_obs))
    assert torch.equal(extended.next_obs[..., : spec.obs_dim], rollout.steps.next_obs)
    assert torch.equal(extended.state, torch.cat([rollout.steps.state, told.flatten(-2)], dim=-1))
    assert torch.equal(extended.next_state, torch.cat([rollout.steps.next_state, told_next.flatten(-2)], dim=-1))
    goes_on = ~rollout.steps.episode_start[1:]
    assert torch.equal(told_next[:-1][goes_on], told[1:][goes_on])
    for name in set(rollout.steps._fields) - {"obs", "next_obs", "state", "next_state"}:
        assert getattr(extended, name) is getattr(rollout.steps, name), name


def test_without_inputs_everything_is_as_it_was() -> None:
    recorder = Recorder(SPEC, "trial", ())
    steps = played(recorder).steps
    assert recorder.recall.extend(steps) is steps and recorder.recall.spec == SPEC


def test_the_order_in_which_inputs_are_named_does_not_matter() -> None:
    first, second = (Recorder(SPEC, "trial", inputs) for inputs in (INPUTS, INPUTS[::-1]))
    assert torch.equal(first.recall.extend(played(first).steps).obs, second.recall.extend(played(second).steps).obs)


def test_what_is_forgotten_when() -> None:
    start = torch.tensor([[True, True], [False, True], [True, False]])
    of_episodes, of_trials = (Recall(NetworkConfig(memory=memory), SPEC) for memory in ("episode", "trial"))
    assert of_episodes.forgets(start).tolist() == start.tolist()
    assert of_trials.forgets(start).tolist() == [[True, True], [False, False], [False, False]]
