"""A run's folder: what lies where in it, and the lock that keeps a second writer out."""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from filelock import lock_descriptor

from mg2l_kalei.disk.durable import open_unlinked, remove_leftovers

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)  # what file systems without locks answer

LOCKED = "is being written by"  # what is said of a folder whose lock another process holds
MAX_TASKS_SIZE = 1 << 26  # bytes of a tasks.json

_log = logging.getLogger(__name__)


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
    def csv(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def wandb(self) -> Path:
        """Folder of Weights & Biases' runs."""
        return self.path / "wandb"

    @property
    def mlflow(self) -> Path:
        """Folder of MLflow's runs."""
        return self.path / "mlflow"

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

    @property
    def export(self) -> Path:
        """Folder of the team as a program."""
        return self.path / "export"

    @property
    def bad_batch(self) -> Path:
        """Where a batch with values that are not finite is written."""
        return self.path / "bad_batch.safetensors"

    @property
    def replay(self) -> Path:
        """Folder of the trials that checkpoints share."""
        return self.checkpoints / "replay"

    def refuse_links(self) -> None:
        """Raise OSError where a folder in it is a link: what is written would land elsewhere, over others' files."""
        trackers = (self.events, self.wandb, self.mlflow, self.export)
        for folder in (*trackers, self.checkpoints, self.replay, self.evaluation, self.figures):
            if folder.is_symlink():
                raise OSError(f"{folder} is a link, and nothing is written through links: put the folder in its place")

    def remove_leftovers(self) -> None:
        """Remove what writes that were stopped have left. For the one that holds the lock."""
        for folder in (self.path, self.evaluation, self.figures, self.checkpoints, self.replay):
            remove_leftovers(folder)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder, and be its only writer until the block ends. Raises RunFolderLocked, and OSError.

        The system frees the lock when the process that holds it ends, however it ends. On file systems without locks
        there is a warning, and nothing keeps others out.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with _opened(self.path / "lock") as file:
            if not self._is_locked_here(file):
                raise RunFolderLocked(f"{self.path} {LOCKED} {_holder(file)}: wait for it, or stop it")
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            try:
                yield
            finally:
                file.truncate(0)  # the file stays: removing it would let two processes lock two files of one name

    def _is_locked_here(self, file: IO[str]) -> bool:
        """Whether this process holds the lock now; True, with a warning, where there are none. Raises OSError."""
        try:
            return lock_descriptor(file.fileno(), blocking=False)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            _log.warning(
                "%s cannot be locked on its file system (%s): see to it that nothing else writes it",
                self.path,
                error.strerror,
            )
            return True


def _holder(file: IO[str]) -> str:
    """Who holds the lock, in words: Windows lets nobody else read it."""
    try:
        return file.read(200).strip() or "another process"
    except OSError:
        return "another process"


def _opened(path: Path) -> IO[str]:
    """For reading and writing, made if it is not there, never truncated. Raises OSError for a link or a pipe."""
    descriptor = open_unlinked(path, os.O_RDWR | os.O_CREAT)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no regular file: take it away")
    return os.fdopen(descriptor, "r+")
