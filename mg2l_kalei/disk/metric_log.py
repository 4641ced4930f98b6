"""Metrics of a run: one JSON line per iteration, which is the truth, and sinks such as TensorBoard beside it."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from torch import Tensor

from mg2l_kalei.disk.durable import open_unlinked, read_bounded, write_atomically
from mg2l_kalei.disk.output import printable
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.disk.sinks import SINKS, MetricSink

MAX_SIZE = 1 << 30  # bytes of a metrics.jsonl that is read

_log = logging.getLogger(__name__)


@contextmanager
def attempt(what: str) -> Iterator[None]:
    """Do what training can go on without: an exception in the block becomes one line of warning."""
    try:
        yield
    except Exception as error:
        reason = printable(f"{type(error).__name__}: {' '.join(str(error).split())}")
        _log.warning("%s failed (%s); going on without", what, reason)


class MetricLog:
    """Writes ``metrics.jsonl``, and to the named sinks; a failure to write is a warning, never the end of training.

    A line holds ``iteration``, ``env_steps`` and the metrics: keys sorted, floats exact, null for NaN and infinities.
    It survives a kill at once, and power loss once the system has written it out. A sink that fails is left alone.
    """

    def __init__(self, run: RunFolder, sinks: Iterable[str] = ("tensorboard",)) -> None:
        self.last: Mapping[str, float | None] = {}  # metrics of the last line, None where not finite
        self._run = run
        self._lines: IO[bytes] | None = None
        self._wants_lines = True
        self._wanted = list(dict.fromkeys(sinks))
        self._sinks: dict[str, MetricSink] = {}  # those that are open
        self._purge_steps: dict[str, int] = {}  # for sinks that have not been opened since

    def log(self, env_steps: int, iteration: int, metrics: Mapping[str, float | Tensor]) -> None:
        """Add one line, and the same to the sinks at step ``env_steps``. Metrics are scalars, named by paths."""
        self.last = values = {name: _finite(float(value)) for name, value in metrics.items()}
        if self._wants_lines:
            with attempt(f"writing {self._run.metrics}"):
                self._write_line(_line({**values, "iteration": iteration, "env_steps": env_steps}))
        finite = {name: value for name, value in values.items() if value is not None}
        for name in [*self._wanted]:
            is_written = False
            with attempt(f"writing {SINKS[name].what}"):
                self._opened(name).add(env_steps, finite)
                is_written = True
            if not is_written:
                self._leave_alone(name)

    def cut_back(self, iteration: int) -> int:
        """Forget what came after ``iteration``, for a run that goes on from there; 0: forget all.

        Returns the iteration of the last line left, 0 where there is none. Call it before the first ``log`` of every
        session: a line cut off by a kill is dropped here, with a warning. Lines that cannot be read or cut back are
        left alone with a warning, and then none are added.
        """
        self.close()
        kept: list[dict[str, Any]] = []
        self._wants_lines = False
        with attempt(f"cutting back {self._run.metrics}"):
            kept = [row for row in read_metrics(self._run.metrics) if row["iteration"] <= iteration]
            if self._run.metrics.exists():
                write_atomically(self._run.metrics, "".join(map(_line, kept)))
            self._wants_lines = True
        self._purge_steps = dict.fromkeys(self._wanted, kept[-1]["env_steps"] + 1 if kept else 0)
        self.last = {name: kept[-1][name] for name in kept[-1].keys() - {"iteration", "env_steps"}} if kept else {}
        return kept[-1]["iteration"] if kept else 0

    def close(self) -> None:
        """Write out what is pending. Logging again opens the files again."""
        lines, sinks = self._lines, self._sinks
        self._lines, self._sinks = None, {}
        with attempt(f"closing {self._run.metrics}"):
            if lines:
                lines.close()
        for name, sink in sinks.items():
            with attempt(f"closing {SINKS[name].what}"):
                sink.close()

    def _write_line(self, line: str) -> None:
        if self._lines is None:
            self._run.path.mkdir(parents=True, exist_ok=True)
            self._lines = os.fdopen(open_unlinked(self._run.metrics, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab")
        self._lines.write(line.encode())
        self._lines.flush()  # what a full disk refuses stays in the buffer, and the next flush begins with it

    def _leave_alone(self, name: str) -> None:
        """A sink that failed: one warning is enough."""
        self._wanted.remove(name)
        with suppress(Exception):
            if name in self._sinks:
                self._sinks.pop(name).close()

    def _opened(self, name: str) -> MetricSink:
        if name not in self._sinks:
            self._sinks[name] = SINKS[name].open(self._run, self._purge_steps.pop(name, None))
        return self._sinks[name]


def read_metrics(path: Path, *, holding: str = "") -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``; none if there is no file. Unreadable ones are passed over with a warning.

    ``holding``: lines that do not hold this text are not looked at.
    Raises OSError, or ValueError where it is no regular file or too long.
    """
    rows = []
    for number, line in enumerate(read_bounded(path, MAX_SIZE).splitlines() if path.exists() else [], start=1):
        if holding.encode() not in line:
            continue
        try:
            row = json.loads(line)
            rows.append({**row, "iteration": int(row["iteration"]), "env_steps": int(row["env_steps"])})
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            _log.warning("%s: line %d is no line of metrics, probably cut off by a kill; passed over", path, number)
    return rows


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, sort_keys=True, allow_nan=False) + "\n"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
