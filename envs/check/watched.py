"""Batches that keep an eye on what goes in and out, for the checks."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor

from envs.check.play import Record
from envs.core import EnvBatch, Observation, Picture, Scene, StepResult

R = TypeVar("R", Observation, StepResult)


class Watched:
    """A batch whose records are kept, each beside a copy of what it was."""

    def __init__(self, batch: EnvBatch) -> None:
        self.spec, self._batch = batch.spec, batch
        self.records: list[Record] = []
        self.copies: list[Record] = []
        self.wrote_into_actions = False

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        return self._keep(self._batch.reset(tasks, where))

    def step(self, action: Tensor) -> StepResult:
        given = action.clone()
        result = self._keep(self._batch.step(action))
        self.wrote_into_actions |= not torch.equal(action, given)
        return result

    def scene(self, row: int) -> Scene | Picture | None:
        return self._batch.scene(row)

    def _keep(self, record: R) -> R:
        self.records.append(record)
        self.copies.append(deepcopy(record))
        return record


class Spoilt:
    """A batch whose tensors, those returned and those given, are written over as soon as they were read."""

    def __init__(self, batch: EnvBatch) -> None:
        self.spec, self._batch = batch.spec, batch

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        given = tasks.clone()
        shown = self._batch.reset(given, where)
        given.copy_(given.roll(1))
        return _spoil(shown)

    def step(self, action: Tensor) -> StepResult:
        given = action.clone()
        result = self._batch.step(given)
        given.zero_()
        return _spoil(result)

    def scene(self, row: int) -> Scene | Picture | None:
        return self._batch.scene(row)


def _spoil(record: R) -> R:
    """A copy; the record itself is written over."""
    copy = deepcopy(record)
    for tensor in record:
        if tensor is not None:
            tensor.zero_()
    return copy
