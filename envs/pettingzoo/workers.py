"""Worker processes that play a batch's rows, each a slice of them, on records in shared memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from itertools import pairwise
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.util import Finalize
from typing import Any, NamedTuple

import numpy as np

from envs.core import EnvFailure
from envs.pettingzoo.rows import Game, Records, Rows, record_type

START_TIMEOUT = 300.0  # s, to start Python and import what there is to import
CLOSE_TIMEOUT = 2.0  # s, for workers to close their environments; those that have not are killed


class Worker(NamedTuple):
    process: SpawnProcess
    pipe: Connection
    records: Records  # its slice


class Workers:
    """Plays ``n_rows`` rows as ``Rows`` does, in processes that begin with the first reset.

    They end with this object, with this process, or with the first failure, which is an EnvFailure that names family,
    task and seed. ``timeout`` [s] is for a reset or step of all rows.
    """

    def __init__(self, game: Game, n_rows: int, n_workers: int, timeout: float) -> None:
        self._game = game
        self._n_workers = min(n_workers, n_rows)
        self._timeout = timeout
        self._context = multiprocessing.get_context("spawn")
        row = record_type(game.spec)
        self._memory = self._context.RawArray("b", n_rows * row.itemsize)
        self.records: Records = np.frombuffer(self._memory, row)
        self._workers: list[Worker] = []
        self.close = Finalize(self, _end, (self._workers,), exitpriority=0)  # also before an exit waits for children

    def reset(self) -> None:
        """Restart the rows that are to restart."""
        if not self._workers:
            self._start()
        self._order(b"reset")

    def step(self) -> None:
        """Act in every row."""
        self._order(b"step")

    def forget(self) -> None:
        """Close all environments: rows are as if they had not been played."""
        self._order(b"close")

    @property
    def is_whole(self) -> bool:
        """Nothing has gone wrong yet."""
        return self.close.still_active()

    @property
    def can_play(self) -> bool:
        """Whole, and all processes are there."""
        return self.is_whole and all(worker.process.is_alive() for worker in self._workers)

    def _start(self) -> None:
        bounds = np.linspace(0, len(self.records), self._n_workers + 1).astype(int).tolist()
        for first, last in pairwise(bounds):
            ours, theirs = self._context.Pipe()
            arguments = (theirs, self._game, self._memory, slice(first, last))
            process = self._context.Process(target=_work, args=arguments, daemon=True)
            # Inherited by the worker: to stop is for this process to decide, which saves first.
            resource_tracker.ensure_running()  # or the first start below starts it, which unblocks both again
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
            try:
                process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()  # the worker alone has it, so that its death is seen
            self._workers.append(Worker(process, ours, self.records[first:last]))
        self._await_answers(START_TIMEOUT)

    def _order(self, order: bytes) -> None:
        if not self.is_whole:
            raise EnvFailure(f"{self._game.family}: its workers have ended")
        for worker in self._workers:
            with suppress(OSError):  # it is dead: that is seen when it does not answer
                worker.pipe.send_bytes(order)
        self._await_answers(self._timeout)

    def _await_answers(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        waiting = list(self._workers)
        try:
            while waiting:
                ready = wait([worker.pipe for worker in waiting], max(0.0, deadline - time.monotonic()))
                if not ready:
                    for worker in waiting:  # they will not see that they are to end
                        worker.process.kill()
                    raise EnvFailure(f"{self._place(waiting[0])}: no answer within {timeout:g} s")
                for worker in [worker for worker in waiting if worker.pipe in ready]:
                    waiting.remove(worker)
                    self._read_answer(worker)
        except BaseException:
            self.close()
            raise

    def _read_answer(self, worker: Worker) -> None:
        try:
            failure = worker.pipe.recv_bytes()
        except (EOFError, OSError) as error:
            worker.process.join(CLOSE_TIMEOUT)
            code = worker.process.exitcode
            raise EnvFailure(f"{self._place(worker)}: the worker process died (exit code {code})") from error
        if failure:
            raise EnvFailure(failure.decode())

    def _place(self, worker: Worker) -> str:
        busy = worker.records[worker.records["busy"]]
        return self._game.place(busy[0]) if len(busy) else self._game.family


def _end(workers: Sequence[Worker]) -> None:
    """Let workers close their environments, and kill those that are not done in time."""
    for worker in workers:
        worker.pipe.close()
    deadline = time.monotonic() + CLOSE_TIMEOUT
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _work(pipe: Connection, game: Game, memory: Any, rows_played: slice) -> None:
    """What a worker does, until the pipe's other end is closed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    rows = Rows(game, np.frombuffer(memory, record_type(game.spec))[rows_played])
    orders = {b"reset": rows.reset, b"step": rows.step, b"close": rows.close}
    with closing(rows), suppress(EOFError, OSError):
        pipe.send_bytes(b"")  # ready
        while True:
            order = orders[pipe.recv_bytes()]
            failure = ""
            try:
                order()
            except EnvFailure as error:
                failure = str(error)
            pipe.send_bytes(failure.encode())


def _end_with_parent() -> None:
    """An environment that hangs does not see that the pipe is closed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    time.sleep(CLOSE_TIMEOUT)
    os._exit(1)
