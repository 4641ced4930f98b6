"""Rows of a warehouse family: what is drawn, and records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from envs.core import EnvSpec, Observation, Picture, StepResult
from envs.rware.compiled import forget_outdated
from envs.rware.floor import N_DIRECTIONS, Array, Plan, Rules, empty_floor
from envs.rware.movement import move
from envs.rware.picture import picture
from envs.rware.warehouse import Outcome, Start, begin, observe, work
from envs.streams import Drawn, RowStreams

if hasattr(work, "stats") and work.stats.cache_path:  # not so where NUMBA_DISABLE_JIT is set
    forget_outdated(Path(work.stats.cache_path), Path(__file__).parent)


class WarehouseBatch:
    """B warehouses on one thread of the CPU; records are on the generator's device. See ``warehouse`` for the rules.

    An episode without deliveries for ``max_inactivity_steps`` is terminated, one that reaches its limit truncated;
    where both happen in one step, terminated.
    """

    def __init__(self, spec: EnvSpec, plan: Plan, rules: Rules, n_rows: int, generator: torch.Generator) -> None:
        self.spec = spec
        self.plan, self.rules = plan, rules
        self.floor = empty_floor(plan, rules, n_rows)
        self._n_rows, self._device = n_rows, generator.device
        self._streams = RowStreams(generator, n_rows)
        self._n_chances = min(plan.goals.shape[1], rules.n_agents)
        number = torch.arange(plan.homes.shape[1], device=self._device)
        exists = number < torch.from_numpy(plan.n_shelves).to(self._device)[:, None]  # (L, S)
        self._of_colour = [exists & (number % rules.n_colours == colour) for colour in range(rules.n_colours)]
        self._layout = torch.from_numpy(plan.layout).to(self._device)
        self._places = torch.from_numpy(plan.is_inside).to(self._device)

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        rows = np.ones(self._n_rows, np.bool_) if where is None else where.cpu().numpy()
        begin(self.floor, self.plan, rows, self._start(tasks, *self._streams.restart(self._draw, where)))
        return Observation(*self._seen(), None, self._all_alive())

    def place(self, where: Array, start: Start) -> None:
        """Start an episode in the rows where ``where`` (B,) bool is True, as ``start`` says."""
        begin(self.floor, self.plan, where, start)

    def step(self, action: Tensor) -> StepResult:
        (chance,) = self._streams.step(lambda generator: (self._chances(generator, self._n_chances),))
        return self.step_with(action, chance)

    def step_with(self, action: Tensor, chance: Tensor) -> StepResult:
        """A step whose new requests are given: ``chance`` (B, D) float32, see ``work``."""
        acts = np.ascontiguousarray(action.cpu().numpy(), dtype=np.int64)
        reward = torch.zeros(self._n_rows, self.spec.n_agents)
        terminated, truncated = torch.empty(2, self._n_rows, dtype=torch.bool)
        move(self.floor, self.plan, acts)
        out = Outcome(reward.numpy(), terminated.numpy(), truncated.numpy())
        work(self.floor, self.plan, self.rules, (acts, chance.cpu().numpy()), out)
        obs, state = self._seen()
        ends = terminated.to(self._device), truncated.to(self._device)
        return StepResult(obs, state, reward.to(self._device), *ends, None, self._all_alive())

    def scene(self, row: int) -> Picture:
        return picture(self.floor, self.plan, self.rules, row)

    def _seen(self) -> tuple[Tensor, Tensor]:
        """Observations (B, N, obs_dim) and states (B, state_dim)."""
        obs = torch.zeros(self._n_rows, self.spec.n_agents, self.spec.obs_dim)
        state = torch.zeros(self._n_rows, self.spec.state_dim)
        self._observe(obs.numpy(), state.numpy())
        return obs.to(self._device), state.to(self._device)

    def _observe(self, obs: Array, state: Array) -> None:
        """Write observations and states."""
        observe(self.floor, self.plan, self.rules, obs, state)

    def _draw(self, generator: torch.Generator) -> Drawn:
        """Chances of the starts: of directions (B, N), of shelves (B, S) for each colour, and of cells (B, P)."""
        n_shelves, n_cells = self.plan.homes.shape[1], len(self.plan.where)
        widths = (self.rules.n_agents, *[n_shelves] * self.rules.n_colours, n_cells)
        return tuple([self._chances(generator, width) for width in widths])

    def _chances(self, generator: torch.Generator, width: int) -> Tensor:
        return torch.rand(self._n_rows, width, generator=generator, device=self._device)

    def _start(self, tasks: Tensor, *drawn: Tensor) -> Start:
        """Starts of all rows: distinct cells, distinct shelves."""
        layout, rules = self._layout[tasks], self.rules
        of_direction, *of_shelves, of_cell = drawn
        queue = torch.empty(self._n_rows, rules.n_requests, dtype=torch.int64, device=self._device)
        for colour, (shelves, chance) in enumerate(zip(self._of_colour, of_shelves, strict=True)):
            wanted = queue[:, colour :: rules.n_colours]
            wanted.copy_(some_of(shelves[layout], wanted.shape[1], chance) + 1)
        cell = some_of(self._places[layout], rules.n_agents, of_cell)
        parts = (tasks, cell, (of_direction * N_DIRECTIONS).long(), queue)
        return Start(*[np.array(part.cpu().numpy(), dtype=np.int64) for part in parts])

    def _all_alive(self) -> Tensor:
        return torch.ones(self._n_rows, self.spec.n_agents, dtype=torch.bool, device=self._device)


def some_of(allowed: Tensor, n: int, chance: Tensor) -> Tensor:
    """Numbers (B, n) of distinct places where ``allowed`` (B, P), in an order by ``chance`` (B, P)."""
    return chance.masked_fill(~allowed, -1.0).topk(n, dim=1).indices
