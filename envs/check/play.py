"""Random play that can be repeated and compared, for the checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from envs.core import EnvBatch, EnvSpec, Observation, StepResult, TaskFamily

N_ROWS = 4
MAX_STEPS = 32  # of the stretches compared

Record = Observation | StepResult
Ends = Mapping[int, Tensor]  # step -> rows (B,) bool whose episode is cut off after it
NO_ENDS: Ends = MappingProxyType({})


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


def restart(batch: EnvBatch, tasks: Tensor, actor: Actor, ends: Ends = NO_ENDS) -> list[Record]:
    """The record of a common start of all rows, and what ``go_on`` gives."""
    start = batch.reset(tasks.clone())
    return [start, *go_on(batch, tasks, start.legal, actor, ends)]


def go_on(batch: EnvBatch, tasks: Tensor, legal: Tensor | None, actor: Actor, ends: Ends = NO_ENDS) -> list[Record]:
    """Records of ``MAX_STEPS`` steps, each followed by what is acted on next: rows that ended have started anew."""
    trace: list[Record] = []
    for step in range(MAX_STEPS):
        result = batch.step(actor(legal))
        ended = result.terminated | result.truncated
        if step in ends:
            ended = ended | ends[step]
        shown = batch.reset(tasks.clone(), ended) if ended.any() else seen_in(result)
        trace += [result, shown]
        legal = shown.legal
    return trace


def seen_in(record: Record) -> Observation:
    """Of a start or a step, what an action answers."""
    return Observation(record.obs, record.state, record.legal, record.alive)


def difference(first: Sequence[Record], second: Sequence[Record], rows: Tensor | None = None) -> str | None:
    """Name of the first field that differs in the given rows (None: all)."""
    for a, b in zip(first, second, strict=True):
        for name, x, y in zip(a._fields, a, b, strict=True):
            if x is None and y is None:
                continue
            if x is None or y is None or not torch.equal(*((x, y) if rows is None else (x[rows], y[rows]))):
                return name
    return None
