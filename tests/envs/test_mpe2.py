"""Are our scenarios those of mpe2, step by step?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from mpe2 import simple_adversary_v3, simple_reference_v3, simple_speaker_listener_v4, simple_spread_v3, simple_tag_v3
from torch import Tensor

from envs import ENVS, make_family
from envs.core import EnvSpec
from envs.mpe.scenario import Scenario, ScenarioState

N_EPISODES = (100, pytest.param(500, marks=pytest.mark.slow))  # for each scenario, shared among its cases
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


class Reference(NamedTuple):
    """A scenario of mpe2."""

    module: ModuleType
    goals: Callable[[Any], list[Any]] = lambda world: []  # the landmarks that are, in our order
    names: Mapping[str, str] = {}  # of settings that we call otherwise


REFERENCES = {
    "mpe-simple-adversary": Reference(simple_adversary_v3, lambda world: [world.agents[0].goal_a], {"num_good": "N"}),
    "mpe-simple-reference": Reference(simple_reference_v3, lambda world: [agent.goal_b for agent in world.agents]),
    "mpe-simple-speaker-listener": Reference(simple_speaker_listener_v4, lambda world: [world.agents[0].goal_b]),
    "mpe-simple-spread": Reference(simple_spread_v3, names={"n_agents": "N"}),
    "mpe-simple-tag": Reference(simple_tag_v3),
}
CASES: list[tuple[str, bool, dict[str, Any]]] = [
    ("mpe-simple-adversary", True, {"num_good": 1}),
    ("mpe-simple-adversary", True, {"num_good": 2}),
    ("mpe-simple-adversary", False, {"num_good": 2}),
    ("mpe-simple-adversary", False, {"num_good": 4}),
    ("mpe-simple-reference", True, {}),
    ("mpe-simple-reference", True, {"local_ratio": 0.2}),
    ("mpe-simple-reference", False, {}),
    ("mpe-simple-reference", False, {"local_ratio": 1.0}),
    *[("mpe-simple-speaker-listener", is_discrete, {}) for is_discrete in (True, False)],
    ("mpe-simple-spread", True, {"n_agents": 1}),
    ("mpe-simple-spread", False, {"n_agents": 2}),
    ("mpe-simple-spread", True, {"n_agents": 3}),
    ("mpe-simple-spread", False, {"n_agents": 5, "local_ratio": 0.2}),
    ("mpe-simple-tag", True, {}),
    ("mpe-simple-tag", False, {}),
    ("mpe-simple-tag", True, {"num_good": 1, "num_adversaries": 1, "num_obstacles": 0}),
    ("mpe-simple-tag", False, {"num_good": 3, "num_adversaries": 4, "num_obstacles": 3}),
]


class Played(NamedTuple):
    """Episodes that mpe2 played with random actions, in our terms. E episodes of T steps."""

    pos: Tensor  # (E, T + 1, M, 2)   from the start on
    vel: Tensor  # (E, T + 1, M, 2)
    said: Tensor  # (E, T + 1, S, n_words)
    landmarks: Tensor  # (E, L, 2)
    goals: Tensor  # (E, G, L)
    action: Tensor  # (E, T, N, *)
    obs: Tensor  # (E, T, N, obs_dim)
    reward: Tensor  # (E, T, N)

    def state(self, step: int, dtype: torch.dtype) -> ScenarioState:
        """What the world is after ``step`` steps."""
        pos, vel, said = (values[:, step].to(dtype) for values in (self.pos, self.vel, self.said))
        landmarks, goals = self.landmarks.to(dtype), self.goals.to(dtype)
        return ScenarioState(pos, vel, landmarks, goals, said, torch.full((len(pos),), step))


def played_by_mpe2(name: str, family: Scenario, settings: dict[str, Any], n_episodes: int) -> Played:
    """With the family's sizes. Without mpe2's wrappers, which would take half of the time and round to float32."""
    reference, chance = REFERENCES[name], np.random.default_rng(0)
    theirs = {reference.names.get(setting, setting): value for setting, value in settings.items()}
    raw = reference.module.raw_env(continuous_actions=not family.spec.is_discrete, **theirs)
    episodes = []
    for seed in range(n_episodes):
        raw.reset(seed=seed)
        episodes.append(_episode(raw, reference, family.spec, chance))
    return Played(*(torch.tensor(np.array(column)) for column in zip(*episodes, strict=True)))


def _episode(raw: Any, reference: Reference, spec: EnvSpec, chance: np.random.Generator) -> list[Any]:
    """One episode, field by field of ``Played``."""
    world, agents = raw.world, raw.world.agents
    spaces = [raw.action_space(agent.name) for agent in agents]
    states, steps = [_state(agents)], []
    for _ in range(spec.episode_steps):
        action = [chance.integers(space.n) if spec.is_discrete else chance.random(space.shape) for space in spaces]
        raw.current_actions = action
        raw._execute_world_step()
        states.append(_state(agents))
        ours = action if spec.is_discrete else [_in_our_terms(*pair, spec) for pair in zip(agents, action, strict=True)]
        seen = [_padded(raw.scenario.observation(agent, world), spec.obs_dim) for agent in agents]
        steps.append((ours, seen, [raw.rewards[agent.name] for agent in agents]))
    landmarks = [landmark.state.p_pos.copy() for landmark in world.landmarks]
    goals = [[landmark is goal for landmark in world.landmarks] for goal in reference.goals(world)]
    pos, vel, said = map(np.array, zip(*states, strict=True))
    fixed = [np.reshape(landmarks, (-1, 2)), np.reshape(goals, (len(goals), len(landmarks)))]
    return [pos, vel, said, *fixed, *map(np.array, zip(*steps, strict=True))]


def _state(agents: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Positions and velocities of those that move, what was said by those that speak."""
    movable = [agent.state for agent in agents if agent.movable]
    speaking = [agent.state.c.copy() for agent in agents if not agent.silent]
    return [state.p_pos.copy() for state in movable], [state.p_vel.copy() for state in movable], speaking


def _in_our_terms(agent: Any, action: Any, spec: EnvSpec) -> Any:
    """A force where mpe2 has a thrust to each side; messages in [-1, 1]."""
    force = [action[2] - action[1], action[4] - action[3]] if agent.movable else []
    message = 2 * action[5 * agent.movable :] - 1
    return _padded(np.array([*force, *message]), spec.action_dim)


def _padded(values: Any, width: int) -> Any:
    return np.pad(values, (0, width - len(values)))


@pytest.mark.parametrize("n_episodes", N_EPISODES)
@pytest.mark.parametrize(("name", "is_discrete", "settings"), CASES)
def test_states_observations_and_rewards_are_those_of_mpe2(
    name: str, is_discrete: bool, settings: dict[str, Any], n_episodes: int
) -> None:
    n_episodes //= sum(case[0] == name for case in CASES)
    config = replace(ENVS[name][1], is_discrete=is_discrete, **settings)
    if hasattr(config, "opponents"):
        config = replace(config, opponents="learning")
    family = make_family(name, config, np.random.default_rng(0))
    assert isinstance(family, Scenario)
    played = played_by_mpe2(name, family, settings, n_episodes)
    for dtype, tolerance in TOLERANCE.items():
        rows = family.make(n_episodes, torch.device("cpu"), torch.Generator().manual_seed(0), dtype)
        rows.now = played.state(0, dtype)
        for t in range(played.action.shape[1]):
            action = played.action[:, t]
            result = rows.step(action if is_discrete else action.to(dtype))
            theirs = played.state(t + 1, dtype)
            for ours, expected in [
                *zip(rows.now, theirs, strict=True),
                (result.obs, played.obs[:, t].to(dtype)),
                (result.reward, played.reward[:, t].to(dtype)),
            ]:
                torch.testing.assert_close(ours, expected, atol=tolerance, rtol=tolerance)
            if dtype == torch.float32:  # contacts are stiff: rounding would grow from step to step
                rows.now = theirs
        assert result.truncated.all()
