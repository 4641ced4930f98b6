"""What the rows of every particle family have in common: bodies that move, time that runs out, and records."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from envs.core import EnvSpec, Observation, Scene, StepResult, replace_rows
from envs.mpe.world import Motion, World
from envs.streams import Drawn, RowStreams


class ParticleBatch(ABC):
    """B rows of a family, on the physics of ``world``.

    A subclass says how an episode starts, what is seen and what is paid. Its state ``now``, a NamedTuple of tensors
    (B, ...), has at least ``pos`` and ``vel`` (B, E, 2) and ``elapsed`` (B,) int64; it may be set, to place a state.
    """

    now: Any

    def __init__(self, spec: EnvSpec, world: World, n_rows: int, generator: torch.Generator) -> None:
        self.spec = spec
        self._world = world
        self._n_rows = n_rows
        self._streams = RowStreams(generator, n_rows)

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        fresh = self._start(tasks, *self._streams.restart(self._draw, where))
        self.now = fresh if where is None else replace_rows(self.now, fresh, where)
        return Observation(self._obs(), self._state(), self._legal(), self._alive())

    def step(self, action: Tensor) -> StepResult:
        self.now = self._after(action)
        truncated = self.now.elapsed >= self.spec.episode_steps
        return StepResult(
            obs=self._obs(),
            state=self._state(),
            reward=self._reward(),
            terminated=torch.zeros_like(truncated),
            truncated=truncated,
            legal=self._legal(),
            alive=self._alive(),
        )

    @abstractmethod
    def scene(self, row: int) -> Scene:
        """What row ``row`` looks like now."""

    @abstractmethod
    def _draw(self, generator: torch.Generator) -> Drawn:
        """What is random in the starts of all rows."""

    @abstractmethod
    def _start(self, tasks: Tensor, *drawn: Tensor) -> Any:
        """The state of every row at the start of an episode of ``tasks`` (B,), of what was drawn."""

    def _after(self, action: Tensor) -> Any:
        """The state that ``action`` leads to."""
        motion = self._world.advance(Motion(self.now.pos, self.now.vel), self._control(action))
        return self.now._replace(pos=motion.pos, vel=motion.vel, elapsed=self.now.elapsed + 1)

    def _control(self, action: Tensor) -> Tensor:
        """What moves the bodies, (B, E, 2) in units of their ``accel``: here, the actions (B, N, 2), clamped."""
        return action.clamp(-1, 1)

    @abstractmethod
    def _obs(self) -> Tensor:
        """(B, N, obs_dim)."""

    @abstractmethod
    def _state(self) -> Tensor:
        """(B, state_dim)."""

    @abstractmethod
    def _reward(self) -> Tensor:
        """(B, N), after the step."""

    def _legal(self) -> Tensor | None:
        """(B, N, n_actions) bool; None: every action is legal, or actions are continuous."""
        return None

    def _alive(self) -> Tensor:
        return torch.ones(self._n_rows, self.spec.n_agents, dtype=torch.bool, device=self._world.device)

    def _uniform(self, generator: torch.Generator, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        """Random numbers of ``shape`` in [low, high)."""
        world = self._world
        chance = torch.rand(shape, dtype=world.dtype, device=world.device, generator=generator)
        return low + (high - low) * chance
