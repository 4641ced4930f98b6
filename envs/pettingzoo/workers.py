"""Worker processes that play a batch's rows, each a slice of them, on records in shared memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing, suppress
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize
from typing import Any

import numpy as np

from envs.core import EnvFailure, Task
from envs.pettingzoo.children import SPAWN, START_TIMEOUT, Child, end, spawn
from envs.pettingzoo.factory import Complaint, in_one_line, versions
from envs.pettingzoo.layout import Layout
from envs.pettingzoo.rows import Game, Records, Rows, record_type
from envs.pettingzoo.trial import try_out


class Workers:
    """Plays ``n_rows`` rows as ``Rows`` does, in processes that begin with the first reset.

    They end with this object, with this process, or with the first failure, which is an EnvFailure that names family,
    task and seed. ``timeout`` [s] is for a reset or step of all rows.
    """

    def __init__(self, game: Game, n_rows: int, n_workers: int, timeout: float) -> None:
        self._game = game
        self._n_workers = min(n_workers, n_rows)
        self._timeout = timeout
        row = record_type(game.spec)
        self._memory = SPAWN.RawArray("b", n_rows * row.itemsize)
        self.records: Records = np.frombuffer(self._memory, row)
        self._workers: dict[Child, Records] = {}  # and the slice that each plays
        self.close = Finalize(self, end, (self._workers,), exitpriority=0)  # also before an exit waits for children

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
            worker = spawn(_work, self._game, self._memory, slice(first, last))
            self._workers[worker] = self.records[first:last]
        self._await_answers(START_TIMEOUT, is_new=True)

    def _order(self, order: bytes) -> None:
        if not self.is_whole:
            raise EnvFailure(f"{self._game.family}: its workers have ended")
        for worker in self._workers:
            with suppress(OSError):  # it is dead: that is seen when it does not answer
                worker.pipe.send_bytes(order)
        self._await_answers(self._timeout)

    def _await_answers(self, timeout: float, *, is_new: bool = False) -> None:
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
                    self._read_answer(worker, is_new)
        except BaseException:
            self.close()
            raise

    def _read_answer(self, worker: Child, is_new: bool) -> None:
        try:
            failure = worker.pipe.recv_bytes()
        except (EOFError, OSError) as error:
            raise EnvFailure(f"{self._place(worker)}: {worker.died(is_new=is_new)}") from error
        if failure:
            raise EnvFailure(failure.decode())

    def _place(self, worker: Child) -> str:
        records = self._workers[worker]
        busy = records[records["busy"]]
        return self._game.place(busy[0]) if len(busy) else self._game.family


def try_in_worker(factory: str, tasks: Sequence[Task], timeout: float) -> tuple[list[Layout], dict[str, str]]:
    """The layout of each task's environment, and the versions of all that makes them, as ``try_out`` has them.

    ``timeout`` [s] is for each task. Raises Complaint, also where the process that tries them dies or hangs.
    """
    child = spawn(_try, factory, tasks)
    layouts: list[Layout] = []
    try:
        _received(child, factory, START_TIMEOUT, is_new=True)
        for task in tasks:
            layouts.append(_received(child, f"{factory}, task {task.name!r}", timeout))
        return layouts, _received(child, factory, timeout)
    finally:
        end([child])


def _received(child: Child, place: str, timeout: float, *, is_new: bool = False) -> Any:
    if not child.pipe.poll(timeout):
        child.process.kill()
        raise Complaint(f"{place}: no answer within {timeout:g} s")
    try:
        answer = child.pipe.recv_bytes() if is_new else child.pipe.recv()
    except (EOFError, OSError):
        raise Complaint(f"{place}: {child.died(is_new=is_new)}") from None
    if isinstance(answer, str):
        raise Complaint(answer)
    return answer


def _try(pipe: Connection, factory: str, tasks: Sequence[Task]) -> None:
    try:
        for task in tasks:
            pipe.send(try_out(factory, task))
        pipe.send(versions(factory))
    except BaseException as error:  # a Complaint; or of ours, such as a layout that cannot be sent
        pipe.send(in_one_line(error))


def _work(pipe: Connection, game: Game, memory: Any, rows_played: slice) -> None:
    """What a worker does, until the pipe's other end is closed."""
    rows = Rows(game, np.frombuffer(memory, record_type(game.spec))[rows_played])
    orders = {b"reset": rows.reset, b"step": rows.step, b"close": rows.close}
    with closing(rows), suppress(EOFError, OSError):
        while True:
            order = orders[pipe.recv_bytes()]
            failure = ""
            try:
                order()
            except EnvFailure as error:
                failure = str(error)
            pipe.send_bytes(failure.encode())
