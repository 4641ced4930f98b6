"""Random play that can be repeated and compared, for the checks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from envs.core import EnvBatch, EnvSpec, Observation, StepResult, TaskFamily

N_ROWS = 4
MAX_STEPS = 32  # of the stretches compared

Record = Observation | StepResult


class Actor:
    """Random actions, legal where only some are; what a row does depends on its own legal actions alone."""

    def __init__(self, spec: EnvSpec, device: torch.device, seed: int) -> None:
        self._spec = spec
        self._device = device
        self._generator = torch.Generator(device).manual_seed(seed)

    def __call__(self, legal: Tensor | None) -> Tensor:
        shape = (N_ROWS, self._spec.n_agents, self._spec.action_dim)
        chance = torch.rand(shape, device=self._device, generator=self._generator)
        if not self._spec.is_discrete:
            return chance * 2 - 1
        for agent, size in enumerate(self._spec.action_sizes):
            chance[:, agent, size:] = -1
        return chance.argmax(-1) if legal is None else chance.masked_fill(~legal, -1).argmax(-1)


class Bench:
    """A family on a device, and how the checks play it: ``mixed`` and ``other`` are tasks (N_ROWS,) of its rows."""

    def __init__(self, family: TaskFamily, device: torch.device) -> None:
        self.family = family
        self.spec = family.spec
        self.device = device
        self.rows = torch.arange(N_ROWS, device=device)
        n_tasks = max(1, len(family.tasks))
        self.mixed = self.rows % n_tasks
        self.other = (self.rows + 1) % n_tasks  # no row has its task of `mixed`, if there are two or more

    def make(self, seed: int = 0) -> tuple[EnvBatch, torch.Generator]:
        generator = torch.Generator(self.device).manual_seed(seed)
        return self.family.make(N_ROWS, self.device, generator), generator

    def actor(self, seed: int = 0) -> Actor:
        return Actor(self.spec, self.device, seed)

    def play(self, tasks: Tensor, seed: int = 0) -> list[Record]:
        """What a new batch shows; only ``tasks`` and the batch's ``seed`` vary."""
        batch, _ = self.make(seed)
        return restart(batch, tasks, self.actor())


def restart(batch: EnvBatch, tasks: Tensor, actor: Actor) -> list[Record]:
    """The record of a restart, and those of the steps up to the first that ends a row."""
    start = batch.reset(tasks.clone())
    return [start, *go_on(batch, start.legal, actor)]


def go_on(batch: EnvBatch, legal: Tensor | None, actor: Actor) -> list[Record]:
    trace: list[Record] = []
    for _ in range(MAX_STEPS):
        result = batch.step(actor(legal))
        trace.append(result)
        if (result.terminated | result.truncated).any():
            break
        legal = result.legal
    return trace


def difference(first: Sequence[Record], second: Sequence[Record], rows: Tensor | None = None) -> str | None:
    """Name of the first field that differs, in the given rows (None: all), over the steps that both traces have."""
    for a, b in zip(first, second, strict=False):
        for name, x, y in zip(a._fields, a, b, strict=True):
            if x is None and y is None:
                continue
            if x is None or y is None or not torch.equal(*((x, y) if rows is None else (x[rows], y[rows]))):
                return name
    return None
