"""Where the time of an iteration goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from envs.core import EnvBatch, Observation, Picture, Scene, StepResult


class Stopwatch:
    """Seconds by name. A name inside another's block is taken off the outer one: no second counts twice.

    ``waits``: a GPU's queue is waited for at the ends of each block, so that its work counts where it was asked for,
    at the cost of a stop in every step. Otherwise only ``wait`` waits.
    """

    def __init__(self, device: torch.device, *, waits: bool = False) -> None:
        self.device, self.waits = device, waits
        self.seconds: dict[str, float] = {}
        self._open: list[str] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = self._now()
        self._open.append(name)
        yield
        self._open.pop()
        elapsed = self._now() - started
        self._add(name, elapsed)
        if self._open:
            self._add(self._open[-1], -elapsed)

    def _add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def wait(self) -> None:
        """Until the device has done what it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _now(self) -> float:
        if self.waits:
            self.wait()
        return time.perf_counter()


class TimedEnv:
    """An ``EnvBatch`` whose steps and resets count as ``environment``."""

    def __init__(self, env: EnvBatch, stopwatch: Stopwatch) -> None:
        self.env, self.stopwatch, self.spec = env, stopwatch, env.spec

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        with self.stopwatch("environment"):
            return self.env.reset(tasks, where)

    def step(self, action: Tensor) -> StepResult:
        with self.stopwatch("environment"):
            return self.env.step(action)

    def scene(self, row: int) -> Scene | Picture | None:
        return self.env.scene(row)
