"""TensorBoard's event files, named so that they are read in the order in which they were logged."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

_NAME = re.compile(r"events\.out\.tfevents\.(\d{10})\..*")


class EventFile:
    """A new event file in ``folder``. Readers forget what earlier ones have logged at ``purge_step`` and after.

    TensorBoard reads a folder's files in the order of their names, which begin with the second in which they were
    made. Its own writer goes on with host and process, so that two sessions of one second come in any order; here a
    file's second is later than that of every other.
    """

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        others = [int(match[1]) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
        second = max([int(time.time()), *(other + 1 for other in others)])
        self._file = (folder / f"events.out.tfevents.{second:010d}.mg2l_kalei").open("xb")
        self._records = RecordWriter(self._file)
        self._write(Event(file_version="brain.Event:2"))
        if purge_step is not None:
            self._write(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Log scalars, by tag."""
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        self._write(Event(step=step, summary=summary))
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
