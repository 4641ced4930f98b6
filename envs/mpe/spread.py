"""Spread-Target: agents cover the landmarks that count, and only the reward tells which those are (MG2L, 2025)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from envs.core import (
    EnvSpec,
    Marker,
    Refusal,
    Scene,
    Task,
    TaskFamily,
    everyone_else,
    refuse_many_tasks,
    setting,
)
from envs.mpe.batch import ParticleBatch
from envs.mpe.layout import MOVES
from envs.mpe.world import WALL_POSITION, Body, World
from envs.streams import Drawn

AGENT = Body(size=0.15, collides=False)
LANDMARK_SIZE = 0.05  # m, drawn only
START_RANGE = 1.0  # m; agents start in plus and minus this on both axes
LANDMARK_RANGE = 0.9  # m
RING_RADIUS = 0.6  # m
RING_JITTER = 0.2  # m; on a ring, landmarks stand in plus and minus this around their places


def discrete_setting() -> bool:
    """Of families whose agents are moved by forces; learners of values of numbered actions need it."""
    return setting(False, "choices among five moves; otherwise forces in the plane", is_late=True)


@dataclass(frozen=True)
class SpreadConfig:
    n_agents: int = setting(2, "agents, and landmarks that count", low=1)
    n_landmarks: int = setting(3, "landmarks, all alike to see; at least as many as agents", low=1, high=1000)
    n_held_out: int = setting(0, "tasks that are never trained on, drawn at random", low=0)
    landmarks: str = setting(
        "anywhere", "where they stand: anywhere, or each near its own place on a ring", choices=("anywhere", "ring")
    )
    episode_steps: int = setting(100, "time limit of an episode [steps]", low=1)
    is_discrete: bool = discrete_setting()

    def __post_init__(self) -> None:
        if self.n_landmarks < self.n_agents:
            raise Refusal(f"n_landmarks={self.n_landmarks} is less than n_agents={self.n_agents}")
        n_tasks = math.comb(self.n_landmarks, self.n_agents)
        refuse_many_tasks(f"n_agents={self.n_agents}, n_landmarks={self.n_landmarks}", n_tasks, self.n_landmarks)
        if self.n_held_out >= n_tasks:
            raise Refusal(f"n_held_out={self.n_held_out} leaves none of {n_tasks} tasks to train on")


class SpreadState(NamedTuple):
    pos: Tensor  # (B, N, 2)
    vel: Tensor  # (B, N, 2)
    landmarks: Tensor  # (B, L, 2)
    targets: Tensor  # (B, L)   1 where the landmark counts
    elapsed: Tensor  # (B,) int64   steps since the episode's start


class Spread(TaskFamily):
    """One task for each choice of ``n_agents`` landmarks. Finite where none is held out: all are seen in training."""

    def __init__(self, name: str, config: SpreadConfig, generator: np.random.Generator) -> None:
        n, n_landmarks = config.n_agents, config.n_landmarks
        super().__init__(name, config, generator)
        self.config = config
        choices = list(combinations(range(n_landmarks), n))
        held_out = set(generator.permutation(len(choices))[: config.n_held_out].tolist())
        tasks = [_task(chosen, n_landmarks, place in held_out) for place, chosen in enumerate(choices)]
        self.tasks = tuple(sorted(tasks, key=lambda task: task.split, reverse=True))  # those to train on first
        self.spec = spread_spec(n, n_landmarks, config.episode_steps, config.is_discrete)
        if config.landmarks != "anywhere":
            self.made_by = {"landmarks": config.landmarks}

    def places(self, obs: Tensor) -> Tensor:
        return obs[..., :2]

    def make(
        self,
        n_rows: int,
        device: torch.device,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> SpreadBatch:
        target_masks = self.features().to(device, dtype)
        return SpreadBatch(self.spec, target_masks, n_rows, generator, on_ring=self.config.landmarks == "ring")


def spread_spec(n_agents: int, n_landmarks: int, episode_steps: int, is_discrete: bool) -> EnvSpec:
    """The sizes of ``SpreadBatch``."""
    return EnvSpec(
        n_agents=n_agents,
        obs_dim=2 * (1 + n_landmarks + n_agents - 1),
        state_dim=2 * (2 * n_agents + n_landmarks),
        action_dim=len(MOVES) if is_discrete else 2,
        is_discrete=is_discrete,
        episode_steps=episode_steps,
        shared_reward=True,
        ends_on_time=True,
    )


def _task(chosen: tuple[int, ...], n_landmarks: int, is_held_out: bool) -> Task:
    mask = tuple(float(landmark in chosen) for landmark in range(n_landmarks))
    split = "test" if is_held_out else "train"
    return Task("targets-" + "-".join(map(str, chosen)), {"targets": list(chosen)}, mask, split)


def ring(n: int) -> Tensor:
    """(n, 2) places, evenly on a circle, counterclockwise from the right."""
    angle = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
    return RING_RADIUS * torch.stack([angle.cos(), angle.sin()], dim=-1)


class SpreadBatch(ParticleBatch):
    """Rows of ``Spread``. ``now`` may be set, to place a given state.

    Observation: own position; relative positions of the landmarks, then of the other agents.
    State: positions, velocities, landmarks.
    Reward: the team's, the same for each agent: n_agents times minus the distance from each target to its nearest
    agent, summed over the targets.
    """

    now: SpreadState

    def __init__(
        self,
        spec: EnvSpec,
        target_masks: Tensor,
        n_rows: int,
        generator: torch.Generator,
        *,
        on_ring: bool = False,
    ) -> None:
        super().__init__(
            spec, World([AGENT] * spec.n_agents, target_masks.device, target_masks.dtype), n_rows, generator
        )
        self._target_masks = target_masks  # (n_tasks, L)
        self._n_landmarks = target_masks.shape[1]
        self._places, self._landmark_range = torch.zeros_like(target_masks[:1, :, None]), LANDMARK_RANGE
        if on_ring:
            self._places, self._landmark_range = ring(self._n_landmarks).to(target_masks), RING_JITTER
        seen = everyone_else(self._n_landmarks + spec.n_agents, target_masks.device)[self._n_landmarks :]
        self._moves = torch.tensor(MOVES, device=target_masks.device, dtype=target_masks.dtype)
        self._seen = seen.flatten()  # (N (L + N - 1),)   all points but oneself, agent after agent

    def _draw(self, generator: torch.Generator) -> Drawn:
        return (self._uniform(generator, (self._n_rows, self.spec.n_agents + self._n_landmarks, 2), -1.0, 1.0),)

    def _start(self, tasks: Tensor, *drawn: Tensor) -> SpreadState:
        (points,) = drawn
        pos, landmarks = points.split((self.spec.n_agents, self._n_landmarks), dim=1)
        return SpreadState(
            pos=pos * START_RANGE,
            vel=torch.zeros_like(pos),
            landmarks=self._places + landmarks * self._landmark_range,
            targets=self._target_masks[tasks],
            elapsed=torch.zeros_like(tasks),
        )

    def _control(self, action: Tensor) -> Tensor:
        return F.embedding(action, self._moves) if self.spec.is_discrete else super()._control(action)

    def scene(self, row: int) -> Scene:
        now = self.now
        places = zip(now.landmarks[row].tolist(), now.targets[row].tolist(), strict=True)
        landmarks = [Marker(x, y, LANDMARK_SIZE, "landmark", target > 0) for (x, y), target in places]
        agents = [Marker(x, y, AGENT.size, "agent", False) for x, y in now.pos[row].tolist()]
        return Scene((*landmarks, *agents), -WALL_POSITION, WALL_POSITION)

    def _obs(self) -> Tensor:
        pos, landmarks = self.now.pos, self.now.landmarks
        points = torch.cat((landmarks, pos), dim=1)
        seen = points.index_select(1, self._seen).view(*pos.shape[:2], -1, 2)  # (B, N, L + N - 1, 2)
        return torch.cat((pos, (seen - pos[:, :, None]).flatten(2)), dim=-1)

    def _reward(self) -> Tensor:
        nearest = torch.cdist(self.now.landmarks, self.now.pos).amin(dim=-1)  # (B, L)
        per_agent = -(nearest * self.now.targets).sum(dim=1, keepdim=True)  # (B, 1)
        return (per_agent * self.spec.n_agents).expand(-1, self.spec.n_agents).clone()

    def _state(self) -> Tensor:
        return torch.cat((self.now.pos, self.now.vel, self.now.landmarks), dim=1).flatten(1)
