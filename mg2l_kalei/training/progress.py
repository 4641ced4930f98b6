"""How far a run is: a bar on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from mg2l_kalei.disk.metric_log import attempt
from mg2l_kalei.disk.output import Nowhere

_LINE_PERIOD = 10.0  # seconds; without a terminal, a line comes at least this often,
_LINE_SHARES = 10  # and whenever a further tenth of the run is done


class Progress:
    """Shows iterations done, environment steps per second, time left and a return. Use it in a ``with`` block.

    ``done`` iterations were made before this session: rate and time left are this session's. A display that fails is a
    warning.
    """

    def __init__(
        self,
        total_iterations: int,
        env_steps_per_iteration: int,
        *,
        done: int = 0,
        stream: TextIO | None = None,  # None: standard error
        clock: Callable[[], float] = time.monotonic,  # seconds
    ) -> None:
        self._total = total_iterations
        self._env_steps = env_steps_per_iteration
        self._done = done
        self._clock = clock
        self._start = self._last_line = clock()
        self._last_share = self._share(done)
        self._stream: TextIO = stream or sys.stderr or Nowhere()  # none: closed when the program began
        self._bar = _bar(self._stream)
        if self._bar:
            self._task = self._bar.add_task(self._text(done, None), total=total_iterations, completed=done)

    def __enter__(self) -> Progress:
        if self._bar:
            with attempt("showing progress"):
                self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            with attempt("showing progress"):
                self._bar.stop()

    def update(self, iteration: int, episode_return: float | None = None) -> None:
        """``iteration`` iterations of the run are done; ``episode_return`` is the latest figure worth seeing."""
        text = self._text(iteration, episode_return)
        with attempt("showing progress"):
            if self._bar:
                self._bar.update(self._task, completed=iteration, description=text)
            elif self._is_due(iteration):
                print(text, file=self._stream, flush=True)

    def _is_due(self, iteration: int) -> bool:
        now, share = self._clock(), self._share(iteration)
        is_due = now - self._last_line >= _LINE_PERIOD or share > self._last_share
        if is_due:
            self._last_line, self._last_share = now, share
        return is_due

    def _share(self, iteration: int) -> int:
        return _LINE_SHARES * iteration // max(self._total, 1)

    def _text(self, iteration: int, episode_return: float | None) -> str:
        made, seconds = iteration - self._done, self._clock() - self._start
        parts = [f"iteration {iteration}/{self._total} ({100 * iteration // max(self._total, 1)} %)"]
        if made > 0 and seconds > 0:
            left = timedelta(seconds=round((self._total - iteration) * seconds / made))
            parts += [f"{made * self._env_steps / seconds:,.0f} env steps/s", f"{left} left"]
        if episode_return is not None:
            parts.append(f"return {episode_return:.4g}")
        return ", ".join(parts)


def _bar(stream: TextIO) -> Bar | None:
    """A bar if ``stream`` is a terminal that can draw one: the stream is asked, as rich would believe FORCE_COLOR."""
    console = Console(file=stream, force_terminal=stream.isatty())
    if not console.is_terminal or console.is_dumb_terminal:
        return None
    return Bar(BarColumn(), TextColumn("{task.description}", markup=False), console=console)
