"""Rows of ``rware-color-published``: what differs from the rules of ``warehouse``.

Shelves have colours that are drawn at each start, each by itself, and show them always; any shelf that is not requested
may be requested next, so that a colour may have none. Action a of an agent of colour c is rware's action (a - c) mod 5.
The time limit is the end: an episode is terminated there, never truncated. An agent sees itself (x, y, whether it
carries, direction as one-hot, whether it is in an aisle), then, row by row, each cell around it: an agent, for each
colour whether a shelf of it is there, whether that is requested; all in the order of its colour.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from envs.core import EnvSpec, StepResult
from envs.rware.batch import WarehouseBatch, some_of
from envs.rware.compiled import kernel
from envs.rware.floor import DOWN, N_ACTIONS, N_DIRECTIONS, REQUEST_SIZE, SELF_SIZE, Array, Floor, Plan, Rules
from envs.rware.warehouse import Start, look_at_oneself, where_requests_are
from envs.streams import Drawn


class PublishedBatch(WarehouseBatch):
    """Rows of the published family. ``given``: rules, and the orders of what colours see, (C, obs_dim) int64."""

    def __init__(
        self, spec: EnvSpec, plan: Plan, given: tuple[Rules, Array], n_rows: int, generator: torch.Generator
    ) -> None:
        rules, self.orders = given
        super().__init__(spec, plan, rules, n_rows, generator)
        self._colour = torch.tensor(plan.colour[0], dtype=torch.int64, device=generator.device)

    def step_with(self, action: Tensor, chance: Tensor) -> StepResult:
        result = super().step_with((action - self._colour) % N_ACTIONS, chance)
        over = result.terminated | result.truncated
        return result._replace(terminated=over, truncated=torch.zeros_like(over))

    def _draw(self, generator: torch.Generator) -> Drawn:
        """Chances of the starts: of directions (B, N), of requests (B, S), of cells (B, P), of colours (B, S)."""
        n_shelves, n_cells = self.plan.homes.shape[1], len(self.plan.where)
        widths = (self.rules.n_agents, n_shelves, n_cells, n_shelves)
        return tuple([self._chances(generator, width) for width in widths])

    def _start(self, tasks: Tensor, *drawn: Tensor) -> Start:
        of_direction, of_shelf, of_cell, of_colour = drawn
        queue = some_of(torch.ones_like(of_shelf, dtype=torch.bool), self.rules.n_requests, of_shelf) + 1
        cell = some_of(self._places[self._layout[tasks]], self.rules.n_agents, of_cell)
        direction, colour = (of_direction * N_DIRECTIONS).long(), (of_colour * self.rules.n_colours).long()
        parts = (tasks, cell, direction, queue, colour)
        return Start(*[np.array(part.cpu().numpy(), dtype=np.int64) for part in parts])

    def _observe(self, obs: Array, state: Array) -> None:
        observe(self.floor, self.plan, (self.rules, self.orders), obs, state)


@kernel
def observe(floor: Floor, plan: Plan, given: tuple[Rules, Array], obs: Array, state: Array) -> None:
    """Write observations (B, N, obs_dim) and states (B, state_dim), both float32 zeros before.

    ``given``: rules, and the orders of what colours see, (C, obs_dim) int64. The state is all agents' observations,
    then x and y of each requested shelf, whether it is carried, and its colour as one-hot.
    """
    rules, orders = given
    n_rows, n, width = obs.shape
    seen = np.empty(width, np.float32)
    for b in range(n_rows):
        for i in range(n):
            seen[:] = 0
            _look(b, i, floor, (plan, rules), seen)
            order = orders[plan.colour[floor.task[b], i]]
            for place in range(width):
                obs[b, i, place] = seen[order[place]]
                state[b, i * width + place] = obs[b, i, place]
        where_requests_are(b, floor, plan, REQUEST_SIZE + rules.n_colours, state[b, n * width :])
        for k in range(floor.queue.shape[1]):
            at = n * width + k * (REQUEST_SIZE + rules.n_colours) + REQUEST_SIZE
            state[b, at + int(floor.shelf_colour[b, floor.queue[b, k]])] = 1


@kernel
def _look(b: int, i: int, floor: Floor, tables: tuple[Plan, Rules], obs: Array) -> None:
    """What agent i sees, in the order of nobody."""
    plan, rules = tables
    cell, seen, stride = np.int64(floor.cell[b, i]), rules.sensor_range, plan.ahead[DOWN]
    look_at_oneself(b, i, floor, plan, obs)
    at, n_colours = SELF_SIZE, rules.n_colours
    for row in range(-seen, seen + 1):
        for there in range(cell + row * stride - seen, cell + row * stride + seen + 1):
            shelf = floor.shelf_at[b, there]
            obs[at] = floor.agent_at[b, there] > 0
            if shelf:
                obs[at + 1 + int(floor.shelf_colour[b, shelf])] = 1
                obs[at + 1 + n_colours] = floor.is_requested[b, shelf]
            at += 2 + n_colours
