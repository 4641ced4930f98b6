"""Processes that run environments for this one: how they begin, and that they end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

SPAWN = multiprocessing.get_context("spawn")
START_TIMEOUT = 300.0  # s, to start Python and import what there is to import
CLOSE_TIMEOUT = 2.0  # s, for children to close their environments; those that have not are killed


class Child(NamedTuple):
    process: SpawnProcess
    pipe: Connection

    def died(self, *, is_new: bool) -> str:
        """In words, once its end of the pipe is closed. ``is_new``: it had not yet said that it was ready."""
        self.process.join(CLOSE_TIMEOUT)
        code = f"(exit code {self.process.exitcode})"
        if not is_new:
            return f"the worker process died {code}"
        return (
            f"the worker process died as it started {code}: a script that starts workers must be a file, and do so "
            'under `if __name__ == "__main__":`'
        )


def spawn(work: Callable[..., None], *arguments: Any) -> Child:
    """Begin a process that calls ``work(pipe, *arguments)``, after an empty message that says that it is ready."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_run, args=(theirs, work, arguments), daemon=True)
    try:
        with _signals_kept_off():
            process.start()
    except RuntimeError as error:
        if "bootstrapping" not in str(error):
            raise
        raise SystemExit(1) from error  # a child runs its parent's script: the parent will say what is wrong
    theirs.close()  # the child alone has it, so that its death is seen
    return Child(process, ours)


@contextmanager
def _signals_kept_off() -> Iterator[None]:
    """From a child that is begun here: to stop is for this process to decide, which saves first. Not on Windows."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # or the start of a child starts it, which unblocks both again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # which a child inherits
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end(children: Iterable[Child]) -> None:
    """Let children close their environments, and kill those that are not done in time."""
    children = list(children)
    for child in children:
        child.pipe.close()
    deadline = time.monotonic() + CLOSE_TIMEOUT
    for child in children:
        child.process.join(max(0.0, deadline - time.monotonic()))
        if child.process.is_alive():
            child.process.kill()
            child.process.join()


def _run(pipe: Connection, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a KeyboardInterrupt is an environment's own
    threading.Thread(target=_end_with_parent, daemon=True).start()
    pipe.send_bytes(b"")
    work(pipe, *arguments)


def _end_with_parent() -> None:
    """An environment that hangs does not see that the pipe is closed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    time.sleep(CLOSE_TIMEOUT)
    os._exit(1)
