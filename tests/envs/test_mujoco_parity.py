"""Are our robots those of gymnasium-robotics' ``mamujoco_v1``, step by step?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor

from envs.core import Observation, StepResult
from envs.mujoco.batch import MujocoBatch
from envs.mujoco.family import MujocoFamily
from envs.mujoco.imports import obsk_module
from envs.mujoco.partition import factorization
from envs.mujoco.robots import ROBOTS, Array
from envs.mujoco.team import MujocoConfig

TOLERANCE = 1e-9  # in float64
N_ROWS = 3
LIMIT = 25  # steps of an episode in most cases: those that can fall do so in some episodes, and in some not
LIMITS = {"Ant": 60}
RESTARTED = {6: 1, 15: 2}  # rows by the steps after which they are, in the middle of an episode
OURS = {("Walker2d", "6x1"), ("Humanoid", "17x1")}  # partitions that the reference has no name for
PARTITIONS = [
    (robot.label, conf if robot.model else "10x2")  # where any numbers will do
    for robot in ROBOTS.values()
    for conf in robot.partitions
]


def mamujoco(robot: str, conf: str, obsk: int, folder: Path, **settings: Any) -> Any:
    """The reference. ``settings`` are Gymnasium's, of the robot alone."""
    obsk_module()  # or its package complains about robots that are not used here
    from gymnasium_robotics import mamujoco_v1
    from gymnasium_robotics.envs.multiagent_mujoco.many_segment_swimmer import gen_asset

    settings = {"disable_env_checker": True, **settings}
    if robot == "ManySegmentSwimmer":  # its own way is by a file in its package's folder, which other processes share
        n_agents, n_each = map(int, conf.split("x"))
        gen_asset(n_agents * n_each, str(folder / "swimmer.xml"))
        env = gymnasium.make("Swimmer-v5", xml_file=str(folder / "swimmer.xml"), **settings)
        return mamujoco_v1.parallel_env(robot, conf, obsk, gym_env=env)
    if (robot, conf) in OURS:
        graph = factorization(ROBOTS[robot], conf)
        settings["agent_factorization"] = {"partition": graph.parts, "edges": graph.edges, "globals": graph.globals_}
    return mamujoco_v1.parallel_env(robot, conf, obsk, **settings)


def our_batch(robot: str, conf: str, n_rows: int = N_ROWS, **settings: Any) -> MujocoBatch:
    family = MujocoFamily("mujoco", MujocoConfig(robot, conf, **settings), np.random.default_rng(0))
    return family.make(n_rows, torch.device("cpu"), torch.Generator().manual_seed(0), torch.float64)


def compare(ours: Tensor, expected: Array) -> None:
    """Assert that they are equal but for rounding. Torch and numpy have words for it, which take most of the time."""
    difference = np.abs(ours.numpy() - expected)
    assert ours.shape == expected.shape and (difference <= TOLERANCE * (1 + np.abs(expected))).all(), difference.max()


class Pair:
    """Rows of ours, each beside an environment of the reference."""

    def __init__(self, robot: str, conf: str, obsk: int, folder: Path, steps: int) -> None:
        settings = {"max_episode_steps": steps}
        self.theirs = [mamujoco(robot, conf, obsk, folder, **settings) for _ in range(N_ROWS)]
        self.ours = our_batch(robot, conf, agent_obsk=obsk, episode_steps=steps)
        self.agents = self.theirs[0].possible_agents
        self.sizes = [self.theirs[0].action_space(agent).shape[0] for agent in self.agents]
        # Of the model: the reference's action space is rounded to float32.
        self.strength = float(self.theirs[0].single_agent_env.unwrapped.model.actuator_ctrlrange[0, 1])
        self.n_resets = 0

    def reset(self, where: Tensor) -> None:
        """Restart rows of both in the reference's state."""
        rows, tasks = np.flatnonzero(where.numpy()), torch.zeros(N_ROWS, dtype=torch.int64)
        self.ours.reset(tasks, where)
        seen = []
        for row in rows.tolist():
            seen.append(self.theirs[row].reset(seed=self.n_resets)[0])
            self.n_resets += 1
        states = [self.theirs[row].single_agent_env.unwrapped.data for row in rows]
        qpos, qvel = np.array([state.qpos for state in states]), np.array([state.qvel for state in states])
        self.ours.place(rows, qpos, qvel)
        shown = self.ours.reset(tasks, torch.zeros(N_ROWS, dtype=torch.bool))  # no row: what is seen now
        for row, obs in zip(rows.tolist(), seen, strict=True):
            self.compare(shown, row, obs)

    def step(self, action: Array) -> StepResult:
        """Act (B, N, action_dim) in both, and compare."""
        result = self.ours.step(torch.from_numpy(action))
        for row, env in enumerate(self.theirs):
            told = {agent: action[row, i, : self.sizes[i]] * self.strength for i, agent in enumerate(self.agents)}
            obs, rewards, terminated, truncated, _ = env.step(told)
            self.compare(result, row, obs)
            compare(result.reward[row], np.array([rewards[agent] for agent in self.agents]))
            for agent in self.agents:
                assert result.terminated[row].item() == terminated[agent]
                assert result.truncated[row].item() == (truncated[agent] and not terminated[agent])
        return result

    def compare(self, ours: Observation | StepResult, row: int, obs: dict[str, Array]) -> None:
        compare(ours.state[row], self.theirs[row].state())
        for i, agent in enumerate(self.agents):
            compare(ours.obs[row, i], np.pad(obs[agent], (0, self.ours.spec.obs_dim - len(obs[agent]))))


@pytest.mark.parametrize(
    ("robot", "conf", "obsk", "limit"),
    [
        *[(robot, conf, obsk, LIMITS.get(robot, LIMIT)) for robot, conf in PARTITIONS for obsk in (0, 1)],
        ("HalfCheetah", "6x1", 5, LIMIT),  # the farthest that any agent sees
        ("Swimmer", "2x1", 1, 1000),  # the reference's own limit
    ],
)
def test_observations_rewards_and_ends_are_those_of_mamujoco(
    robot: str, conf: str, obsk: int, limit: int, elsewhere: Path
) -> None:
    pair, chance = Pair(robot, conf, obsk, elsewhere, limit), np.random.default_rng(0)
    spec = pair.ours.spec
    fallen = out_of_time = 0
    pair.reset(torch.ones(N_ROWS, dtype=torch.bool))
    for t in range(limit + 2 * LIMIT):
        result = pair.step(chance.uniform(-1, 1, (N_ROWS, spec.n_agents, spec.action_dim)))
        fallen += int(result.terminated.sum())
        out_of_time += int(result.truncated.sum())
        where = result.terminated | result.truncated
        if t in RESTARTED:
            where[RESTARTED[t]] = True
        if where.any():
            pair.reset(where)
    assert out_of_time and bool(fallen) == (ROBOTS[robot].is_healthy is not None)


@pytest.mark.parametrize(("robot", "conf"), PARTITIONS)
def test_sizes_are_those_of_the_references_spaces(robot: str, conf: str, elsewhere: Path) -> None:
    reference, spec = mamujoco(robot, conf, 1, elsewhere), our_batch(robot, conf, agent_obsk=1).spec
    obs_sizes = [reference.observation_space(agent).shape[0] for agent in reference.possible_agents]
    action_sizes = [reference.action_space(agent).shape[0] for agent in reference.possible_agents]
    assert (spec.n_agents, spec.state_dim) == (len(obs_sizes), len(reference.state()))
    assert list(spec.obs_sizes or [spec.obs_dim] * spec.n_agents) == obs_sizes
    assert list(spec.action_sizes or [spec.action_dim] * spec.n_agents) == action_sizes
    kinds = list(zip(obs_sizes, action_sizes, strict=True))
    types = spec.agent_types or (0,) * spec.n_agents
    assert len(set(zip(types, kinds, strict=True))) == len(set(kinds)) == len(set(types))
    assert spec.episode_steps == reference.single_agent_env.spec.max_episode_steps


@pytest.mark.parametrize(("robot", "conf"), {robot: (robot, conf) for robot, conf in PARTITIONS}.values())
def test_episodes_start_as_those_of_gymnasium(robot: str, conf: str, elsewhere: Path) -> None:
    """In distribution: generators differ."""
    env = mamujoco(robot, conf, 0, elsewhere).single_agent_env.unwrapped
    ours = our_batch(robot, conf, n_rows=300)
    ours.reset(torch.zeros(300, dtype=torch.int64))
    starts = []
    for seed in range(300):
        env.reset(seed=seed)
        starts.append((env.data.qpos - env.init_qpos, env.data.qvel - env.init_qvel))
    theirs = [np.array(noise) for noise in zip(*starts, strict=True)]
    for mine, expected in zip((ours.simulator.qpos - env.init_qpos, ours.simulator.qvel), theirs, strict=True):
        assert (expected.std(axis=0) > 0).all() and (mine.std(axis=0) > 0).all()
        assert ks_2samp(mine.ravel(), expected.ravel()).pvalue > 0.01
        assert mine.std() == pytest.approx(expected.std(), rel=0.06)


@pytest.mark.parametrize("is_standardised", [False, True])
def test_who_sees_all_sees_the_state_and_a_number(is_standardised: bool) -> None:
    """Standardised within the sample of one agent, the number too, by the population's deviation."""
    regime = "full-standardised" if is_standardised else "full"
    rows, agents_own = our_batch("Ant", "4x2", observation=regime), our_batch("Ant", "4x2")
    tasks, action = torch.zeros(N_ROWS, dtype=torch.int64), torch.linspace(-1, 1, N_ROWS * 8).view(N_ROWS, 4, 2)
    assert torch.equal(rows.reset(tasks).state, agents_own.reset(tasks).state)
    result, expected = rows.step(action), agents_own.step(action)
    assert rows.spec.obs_dim == expected.state.shape[1] + 4 and not rows.spec.obs_sizes
    for row in range(N_ROWS):
        for agent in range(4):
            seen = np.concatenate((expected.state[row].numpy(), np.eye(4)[agent]))
            if is_standardised:
                mean = sum(seen) / len(seen)
                seen = (seen - mean) / (sum((seen - mean) ** 2) / len(seen)) ** 0.5
            np.testing.assert_allclose(result.obs[row, agent].numpy(), seen, rtol=1e-12, atol=1e-12)
    assert torch.equal(result.reward, expected.reward) and torch.equal(result.state, expected.state)


@pytest.mark.parametrize("label", [label for label, robot in ROBOTS.items() if robot.is_healthy])
def test_what_is_a_fall_is_gymnasiums(label: str) -> None:
    robot, chance = ROBOTS[label], np.random.default_rng(0)
    theirs: Any = gymnasium.make(f"{label}-v5").unwrapped
    wide = chance.uniform(-3, 3, (2000, theirs.model.nq)), chance.uniform(-110, 110, (2000, theirs.model.nv))
    near = theirs.init_qpos + chance.uniform(-0.6, 0.6, (2000, theirs.model.nq)), wide[1] / 2
    for qpos, qvel in (wide, near):
        expected = []
        for theirs.data.qpos[:], theirs.data.qvel[:] in zip(qpos, qvel, strict=True):
            expected.append(bool(theirs.is_healthy))
        assert robot.is_healthy is not None
        assert robot.is_healthy(qpos, qvel).tolist() == expected
    assert any(expected) and not all(expected)
