"""Rows of SMAX: battles of JAX on the CPU, whose arrays torch reads where they are, and copies."""

from __future__ import annotations

import jax
import numpy as np
import torch
from torch import Tensor

from envs.core import EnvSpec, Marker, Observation, Scene, StepResult
from envs.smax.battle import Array, rules
from envs.streams import Drawn, RowStreams

MAP_SIZE = 32.0  # of each side, in cells
RADIUS = 0.5


class BattleBatch:
    """B battles. ``battles``: of each task, the map's name in jaxmarl and the numbers of targets and moves."""

    def __init__(
        self, spec: EnvSpec, battles: tuple[tuple[str, int, int], ...], n_rows: int, generator: torch.Generator
    ) -> None:
        self.spec = spec
        self._n_rows, self._device = n_rows, generator.device
        self._streams = RowStreams(generator, n_rows)
        maps = tuple(dict.fromkeys(name for name, _, _ in battles))
        self._numbers = torch.tensor([(maps.index(name), *how) for name, *how in battles], dtype=torch.int32)
        self._cpu = jax.devices("cpu")[0]
        self._rules = rules(maps, spec.episode_steps)

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        (key,) = self._streams.restart(self._draw, where)
        given = (key.cpu().numpy().astype(np.uint32), self._numbers[tasks.cpu()].numpy())
        with jax.default_device(self._cpu):
            if where is None:
                self._now = self._rules.start(*given)
            else:
                self._now = self._rules.restart(*given, where.cpu().numpy().copy(), self._now)
        seen = self._now[1]
        return Observation(self._shared(seen.obs), self._shared(seen.state), *map(self._shared, seen[-2:]))

    def step(self, action: Tensor) -> StepResult:
        with jax.default_device(self._cpu):
            self._now = self._rules.step(self._now[0], action.cpu().to(torch.int32).numpy())
        return StepResult(*map(self._shared, self._now[1]))

    def scene(self, row: int) -> Scene:
        battle, n = self._now[0].battle, self.spec.n_agents
        place, alive = np.asarray(battle.unit_positions[row]), np.asarray(battle.unit_alive[row])
        markers = [
            Marker(float(x), float(y), RADIUS, "agent" if unit < n else "opponent", False)
            for unit, (x, y) in enumerate(place)
            if alive[unit]
        ]
        return Scene(tuple(markers), 0.0, MAP_SIZE)

    def _draw(self, generator: torch.Generator) -> Drawn:
        """A key of JAX's for each row: (B, 2) int64."""
        return (torch.randint(2**32, (self._n_rows, 2), generator=generator, device=generator.device),)

    def _shared(self, array: Array) -> Tensor:
        """A copy of an array of JAX's, read where it is: callers may write into what they are given."""
        return torch.from_dlpack(array).to(self._device, copy=True)
