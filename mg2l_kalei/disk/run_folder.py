"""A run's folder: what lies where in it, and the lock that keeps a second writer out."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class RunFolderLocked(RuntimeError):
    """Another process is writing the run folder; the message names it."""


class RunFolder(NamedTuple):
    """Everything after training works from this folder alone."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def tasks(self) -> Path:
        return self.path / "tasks.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def events(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.path / "events"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def evaluation(self) -> Path:
        """Folder of raw evaluation results, ``*.json``."""
        return self.path / "evaluation"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder, and be its only writer until the block ends. Raises RunFolderLocked.

        The system frees the lock when the process that holds it ends, however it ends.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise RunFolderLocked(f"{self.path} is being written by {holder}: wait for it, or stop it") from error
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            try:
                yield
            finally:
                file.truncate(0)  # the file stays: removing it would let two processes lock two files of one name
