"""Hunting-Target: predators chase the prey that counts, and only rewards and its fear tell which it is (MG2L, 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs.core import (
    EnvSpec,
    Marker,
    Scene,
    Task,
    TaskFamily,
    everyone_else,
    refuse_many_tasks,
    setting,
)
from envs.mpe.batch import ParticleBatch
from envs.mpe.world import WALL_POSITION, Body, World
from envs.streams import Drawn

PREDATOR = Body(size=0.1, accel=3.0, max_speed=1.0)
PREY = Body(size=0.05, accel=3.0, max_speed=1.2)
TOUCH_DISTANCE = PREDATOR.size + PREY.size  # m
START_RANGE = 1.0  # m; all start in plus and minus this on both axes
SIGHT = 1.414  # m; what is farther away is seen as zeros
DISTANCE_COST = 0.1  # per metre and predator
TOUCH_REWARD = 10.0
NOISE_LOW = {"symmetric": -1.0, "original": 0.0}  # lower end of the preys' random forces; the upper end is 1


@dataclass(frozen=True)
class HuntingConfig:
    n_predators: int = setting(3, "agents", low=1)
    n_preys: int = setting(2, "scripted preys, one of which counts", low=1)
    prey_noise: str = setting(
        "symmetric",
        "random forces of the preys that do not count: symmetric is U(-1, 1); original, of the published code, is "
        "U(0, 1), which carries them into a corner and so gives the task away",
        choices=tuple(NOISE_LOW),
    )
    episode_steps: int = setting(100, "time limit of an episode [steps]", low=1)

    def __post_init__(self) -> None:
        refuse_many_tasks(f"n_preys={self.n_preys}", self.n_preys, self.n_preys)


class HuntingState(NamedTuple):
    pos: Tensor  # (B, E, 2)   predators, then preys
    vel: Tensor  # (B, E, 2)
    target: Tensor  # (B,) int64   number of the prey that counts
    elapsed: Tensor  # (B,) int64   steps since the episode's start


class Hunting(TaskFamily):
    """One task per prey that may be the one that counts. Finite: all tasks are seen in training."""

    def __init__(self, name: str, config: HuntingConfig, generator: np.random.Generator) -> None:
        super().__init__(name, config, generator)
        self.config = config
        preys = range(config.n_preys)
        self.tasks = tuple(
            Task(f"prey-{prey}", {"target": prey}, tuple(float(prey == other) for other in preys)) for prey in preys
        )
        n_bodies = config.n_predators + config.n_preys
        self.spec = EnvSpec(
            n_agents=config.n_predators,
            obs_dim=2 + 3 * (n_bodies - 1),
            state_dim=4 * n_bodies,
            action_dim=2,
            is_discrete=False,
            episode_steps=config.episode_steps,
            ends_on_time=True,
        )

    def make(
        self,
        n_rows: int,
        device: torch.device,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> HuntingBatch:
        world = World([PREDATOR] * self.config.n_predators + [PREY] * self.config.n_preys, device, dtype)
        return HuntingBatch(self.spec, self.config, world, n_rows, generator)


class HuntingBatch(ParticleBatch):
    """Rows of ``Hunting``. ``now`` may be set, to place a given state.

    Observation: own position; relative positions of all other bodies; their distances; zeros beyond ``SIGHT``.
    State: positions and velocities of all bodies.
    Reward of agent i: minus a tenth of the predators' summed distances to the target, and 10 while i touches it.
    """

    now: HuntingState

    def __init__(
        self, spec: EnvSpec, config: HuntingConfig, world: World, n_rows: int, generator: torch.Generator
    ) -> None:
        super().__init__(spec, world, n_rows, generator)
        self._config = config
        everyone = everyone_else(config.n_predators + config.n_preys, world.device)
        self._seen = everyone[: config.n_predators].flatten()  # (N (E - 1),)   all bodies but oneself
        self._preys = torch.arange(config.n_preys, device=world.device)

    def _draw(self, generator: torch.Generator) -> Drawn:
        n_bodies = self._config.n_predators + self._config.n_preys
        return (self._uniform(generator, (self._n_rows, n_bodies, 2), -START_RANGE, START_RANGE),)

    def _draw_noise(self, generator: torch.Generator) -> Drawn:
        shape = (self._n_rows, self._config.n_preys, 2)
        return (self._uniform(generator, shape, NOISE_LOW[self._config.prey_noise], 1.0),)

    def _start(self, tasks: Tensor, *drawn: Tensor) -> HuntingState:
        (pos,) = drawn
        return HuntingState(pos, torch.zeros_like(pos), tasks.clone(), torch.zeros_like(tasks))

    def _control(self, action: Tensor) -> Tensor:
        return torch.cat((super()._control(action), self._prey_control()), dim=1)

    def scene(self, row: int) -> Scene:
        n, target = self.spec.n_agents, int(self.now.target[row])
        places = self.now.pos[row].tolist()
        agents = [Marker(x, y, PREDATOR.size, "agent", False) for x, y in places[:n]]
        preys = [Marker(x, y, PREY.size, "prey", prey == target) for prey, (x, y) in enumerate(places[n:])]
        return Scene((*agents, *preys), -WALL_POSITION, WALL_POSITION)

    def _prey_control(self) -> Tensor:
        """The prey that counts flees straight from its nearest predator, the others move at random: (B, n_preys, 2)."""
        away, distance = self._target_from_predators()
        nearest = distance.argmin(dim=1, keepdim=True)  # (B, 1)
        gap = distance.gather(1, nearest).clamp_min(1e-12)  # in the very same place there is nowhere to flee to
        flight = away.take_along_dim(nearest[:, :, None], dim=1) / gap[:, :, None]  # (B, 1, 2)
        (noise,) = self._streams.step(self._draw_noise)
        is_target = self.now.target[:, None] == self._preys  # (B, n_preys)
        return torch.where(is_target[:, :, None], flight, noise)

    def _target_from_predators(self) -> tuple[Tensor, Tensor]:
        """Vectors from each predator to the prey that counts, (B, N, 2), and their lengths, (B, N)."""
        n, pos = self.spec.n_agents, self.now.pos
        target = pos.take_along_dim((n + self.now.target)[:, None, None], dim=1)  # (B, 1, 2)
        away = target - pos[:, :n]
        return away, torch.linalg.vector_norm(away, dim=-1)

    def _reward(self) -> Tensor:
        _, distance = self._target_from_predators()
        touches = distance < TOUCH_DISTANCE
        return TOUCH_REWARD * touches - DISTANCE_COST * distance.sum(dim=1, keepdim=True)

    def _obs(self) -> Tensor:
        own = self.now.pos[:, : self.spec.n_agents]
        others = self.now.pos.index_select(1, self._seen).view(*own.shape[:2], -1, 2)  # (B, N, E - 1, 2)
        relative = others - own[:, :, None]
        distance = torch.linalg.vector_norm(relative, dim=-1)
        is_seen = distance <= SIGHT
        return torch.cat((own, (relative * is_seen[..., None]).flatten(2), distance * is_seen), dim=-1)

    def _state(self) -> Tensor:
        return torch.cat((self.now.pos, self.now.vel), dim=1).flatten(1)
