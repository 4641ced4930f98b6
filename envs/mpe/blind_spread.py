"""Blind-Particle Spread: groups of agents, each sent to a landmark that only the reward tells (SePS, ICML 2021).

``mpe-blind-spread``        the six published scenarios; nothing changes between episodes, so there is one task.
``mpe-blind-spread-tasks``  which landmark belongs to which group is the hidden task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs.core import EnvSpec, Marker, Scene, Task, TaskFamily, setting
from envs.mpe.assignments import draw_assignments, refuse_assignments
from envs.mpe.batch import ParticleBatch
from envs.mpe.layout import MOVES
from envs.mpe.world import Body, World
from envs.streams import Drawn

AGENT = Body(size=0.15, collides=False)
LANDMARK_SIZE = 0.1  # m, drawn only
START_RANGE = 1.0  # m; agents start in plus and minus this on both axes
LANDMARK_RANGE = 3.0  # m
REWARD_SCALE = 0.5  # of the distance in metres
GROUP_SIZES = {
    1: (5, 5, 5),
    2: (10, 10, 10),
    3: (6, 6, 6, 6, 6),
    4: (3, 3, 3, 12, 9),
    5: (5, 5, 5),
    6: (6, 6, 6, 6, 6),
}
SHUFFLED = (5, 6)  # versions in which each group sees the numbers of its observation in an order of its own


@dataclass(frozen=True)
class BlindSpreadConfig:
    version: int = setting(
        1, "of the published scenarios: groups, and whether observations are shuffled", choices=tuple(GROUP_SIZES)
    )
    episode_steps: int = setting(50, "time limit of an episode [steps]", low=1)


@dataclass(frozen=True)
class BlindSpreadTasksConfig:
    n_groups: int = setting(5, "groups of agents, and landmarks", low=2, high=12)
    group_size: int = setting(2, "agents in each group", low=1, high=1000)
    n_train: int = setting(20, "assignments of landmarks to groups to train on", low=1)
    n_test: int = setting(6, "held-out assignments", low=0)
    episode_steps: int = setting(50, "time limit of an episode [steps]", low=1)

    def __post_init__(self) -> None:
        refuse_assignments(self.n_groups, self.n_train, self.n_test)


class BlindSpreadState(NamedTuple):
    pos: Tensor  # (B, N, 2)   m
    vel: Tensor  # (B, N, 2)   m/s
    landmarks: Tensor  # (B, L, 2)
    own: Tensor  # (B, N) int64   the landmark of each agent
    elapsed: Tensor  # (B,) int64   steps since the episode's start


class _Grouped(TaskFamily):
    """Groups of agents that nobody sees, with as many landmarks as groups."""

    def __init__(self, name: str, config: BlindSpreadConfig | BlindSpreadTasksConfig, sizes: Sequence[int]) -> None:
        self.name = name
        n_groups = len(sizes)
        self.true_groups = tuple(group for group, size in enumerate(sizes) for _ in range(size))
        n_agents = len(self.true_groups)
        self.spec = EnvSpec(
            n_agents=n_agents,
            obs_dim=4 + 2 * n_groups,
            state_dim=4 * n_agents + 2 * n_groups,
            action_dim=len(MOVES),
            is_discrete=True,
            episode_steps=config.episode_steps,
            ends_on_time=True,
        )
        self.orders = np.tile(np.arange(self.spec.obs_dim), (n_groups, 1))  # of what each group sees

    def make(
        self, n_rows: int, device: torch.device, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> BlindSpreadBatch:
        world = World([AGENT] * self.spec.n_agents, device, dtype, has_walls=False)
        return BlindSpreadBatch(self, world, n_rows, generator)


class BlindSpread(_Grouped):
    """One task: group g belongs to landmark g. The order of shuffled observations is drawn once, with the family."""

    def __init__(self, name: str, config: BlindSpreadConfig, generator: np.random.Generator) -> None:
        super().__init__(name, config, GROUP_SIZES[config.version])
        params: dict[str, object] = {"version": config.version, "landmarks": list(range(len(self.orders)))}
        if config.version in SHUFFLED:
            self.orders = generator.permuted(self.orders, axis=1)
            params["orders"] = self.orders.tolist()
        self.tasks = (Task(f"version-{config.version}", params, (1.0,)),)


class BlindSpreadTasks(_Grouped):
    """A task is a permutation: which landmark belongs to which group. Role and task decide together what to do."""

    def __init__(self, name: str, config: BlindSpreadTasksConfig, generator: np.random.Generator) -> None:
        super().__init__(name, config, (config.group_size,) * config.n_groups)
        self.tasks = draw_assignments(config.n_groups, config.n_train, config.n_test, generator)


class BlindSpreadBatch(ParticleBatch):
    """Rows of either family. ``now`` may be set, to place a given state.

    Observation: velocity, position, where each landmark is from oneself: neither who one is nor any other agent.
    State: positions, velocities, landmarks.
    Reward of an agent: minus half its distance to its own landmark.
    Actions: nothing, then a force of 5 N to -x, +x, -y, +y.
    """

    now: BlindSpreadState

    def __init__(self, family: _Grouped, world: World, n_rows: int, generator: torch.Generator) -> None:
        super().__init__(family.spec, world, n_rows, generator)
        groups = torch.tensor(family.true_groups, device=world.device)
        landmarks = torch.tensor([task.params["landmarks"] for task in family.tasks], device=world.device)
        self._own = landmarks[:, groups]  # (n_tasks, N)
        self._n_landmarks = landmarks.shape[1]
        orders = torch.from_numpy(family.orders).to(world.device)
        is_shuffled = bool((orders != torch.arange(orders.shape[1], device=world.device)).any())
        self._orders = orders[groups].expand(n_rows, -1, -1) if is_shuffled else None  # (B, N, obs_dim)
        self._moves = torch.tensor(MOVES, device=world.device, dtype=world.dtype)

    def scene(self, row: int) -> Scene:
        places = enumerate(self.now.landmarks[row].tolist())
        goals = set(self.now.own[row].tolist())
        landmarks = [Marker(x, y, LANDMARK_SIZE, "landmark", place in goals) for place, (x, y) in places]
        agents = [Marker(x, y, AGENT.size, "agent", False) for x, y in self.now.pos[row].tolist()]
        return Scene((*landmarks, *agents), -LANDMARK_RANGE - 0.5, LANDMARK_RANGE + 0.5)

    def _draw(self, generator: torch.Generator) -> Drawn:
        return (self._uniform(generator, (self._n_rows, self.spec.n_agents + self._n_landmarks, 2), -1.0, 1.0),)

    def _start(self, tasks: Tensor, *drawn: Tensor) -> BlindSpreadState:
        (points,) = drawn
        pos, landmarks = points.split((self.spec.n_agents, self._n_landmarks), dim=1)
        return BlindSpreadState(
            pos=pos * START_RANGE,
            vel=torch.zeros_like(pos),
            landmarks=landmarks * LANDMARK_RANGE,
            own=self._own[tasks],
            elapsed=torch.zeros_like(tasks),
        )

    def _control(self, action: Tensor) -> Tensor:
        return torch.nn.functional.embedding(action, self._moves)

    def _obs(self) -> Tensor:
        pos, vel, landmarks, *_ = self.now
        around = (landmarks[:, None] - pos[:, :, None]).flatten(2)  # (B, N, 2 L)
        seen = torch.cat((vel, pos, around), dim=-1)
        return seen if self._orders is None else seen.gather(-1, self._orders)

    def _state(self) -> Tensor:
        return torch.cat((self.now.pos, self.now.vel, self.now.landmarks), dim=1).flatten(1)

    def _reward(self) -> Tensor:
        goal = self.now.landmarks.gather(1, self.now.own[..., None].expand(-1, -1, 2))  # (B, N, 2)
        return -REWARD_SCALE * torch.linalg.vector_norm(goal - self.now.pos, dim=-1)
