"""Where the time of an iteration goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from envs.core import EnvBatch, Observation, Picture, Scene, StepResult

Mark = float | torch.cuda.Event  # a moment: of the clock, or in a GPU's queue


class Stopwatch:
    """Seconds by name. A name inside another's block is taken off the outer one: no second counts twice.

    A GPU's work counts where it was asked for, by marks in its queue, and only ``wait`` waits for it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}  # of blocks that ended before the last ``wait``
        self._open: list[str] = []
        self._ended: list[tuple[str, str | None, Mark, Mark]] = []  # block, the one around it, its start and end

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = self._mark()
        self._open.append(name)
        yield
        self._open.pop()
        self._ended.append((name, self._open[-1] if self._open else None, started, self._mark()))

    def wait(self) -> None:
        """Until the device has done what it was asked for, which is then counted."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        for name, outer, start, end in self._ended:
            elapsed = _seconds(start, end)
            self._add(name, elapsed)
            if outer is not None:
                self._add(outer, -elapsed)
        self._ended.clear()

    def _add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def _mark(self) -> Mark:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event


def _seconds(start: Mark, end: Mark) -> float:
    if isinstance(start, float) or isinstance(end, float):
        assert isinstance(start, float) and isinstance(end, float)
        return end - start
    return float(start.elapsed_time(end)) / 1000  # it says milliseconds


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
