"""Executors: where the runs of a grid are played. Each run is the program's own command in a process of its own."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from envs.core import Refusal, one_line
from envs.extras import require
from mg2l_kalei.grid.runs import PlannedRun

POLL_PERIOD = 0.2  # s
NOT_STARTED = 127  # exit code, as of shells
PATIENCE = 600.0  # s that a run is given to save and leave, once it is told to


class Resources(NamedTuple):
    """What each run gets."""

    n_threads: int
    n_gpus: float = 0.0  # of one run; executors that share machines ask for it


class Outcome(NamedTuple):
    """How a run ended."""

    run: PlannedRun
    exit_code: int
    seconds: float


class Executor(ABC):
    """Plays runs, and yields each as it ends. Closing the iterator stops those that are being played, which save."""

    def __init__(self, n_parallel: int, resources: Resources, address: str | None = None) -> None:
        self.n_parallel, self.resources, self.address = n_parallel, resources, address

    @abstractmethod
    def play(self, runs: Sequence[PlannedRun]) -> Generator[Outcome]:
        """Every run, in no order."""

    def command(self, run: PlannedRun) -> list[str]:
        """Of a run's process; its own ``n_threads`` comes first."""
        words = list(run.words)
        if self.resources.n_threads and not any(word.split("=")[0].lstrip("-") == "n_threads" for word in words):
            words.append(f"n_threads={self.resources.n_threads}")
        return [sys.executable, "-m", "mg2l_kalei", "train", *words]


class LocalExecutor(Executor):
    """Processes of this machine, ``n_parallel`` at once."""

    def play(self, runs: Sequence[PlannedRun]) -> Generator[Outcome]:
        waiting = list(runs)
        playing: dict[subprocess.Popen[bytes], tuple[PlannedRun, float]] = {}
        try:
            while waiting or playing:
                while waiting and len(playing) < self.n_parallel:
                    run = waiting.pop(0)
                    try:
                        playing[start(self.command(run), run.log)] = run, time.monotonic()
                    except OSError:
                        yield Outcome(run, NOT_STARTED, 0.0)
                for process in [process for process in playing if process.poll() is not None]:
                    run, began = playing.pop(process)
                    yield Outcome(run, process.returncode, time.monotonic() - began)
                time.sleep(POLL_PERIOD)
        finally:
            for process in playing:
                process.terminate()
            for process in playing:
                process.wait(PATIENCE)


class RayExecutor(Executor):
    """Tasks of a Ray cluster, which sees this folder as its own; a run whose node is lost goes on at another."""

    def play(self, runs: Sequence[PlannedRun]) -> Generator[Outcome]:
        require("ray")
        import ray

        try:
            ray.init(address=self.address, log_to_driver=False, ignore_reinit_error=True)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise Refusal(f"address={self.address}: Ray does not answer there: {one_line(error)}") from error
        demands = {"num_cpus": max(1, self.resources.n_threads), "num_gpus": self.resources.n_gpus}
        task = ray.remote(**demands, max_retries=-1)(played)
        playing = {task.remote(self.command(run), str(run.log), os.getcwd()): run for run in runs}
        try:
            while playing:
                ended, _ = ray.wait(list(playing), num_returns=1, timeout=POLL_PERIOD)
                for reference in ended:
                    yield Outcome(playing.pop(reference), *ray.get(reference))
        finally:
            for reference in playing:
                ray.cancel(reference)


def start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """A process in a session of its own, so that Ctrl-C does not reach it twice; its output goes to log.

    On Linux it saves and leaves where the process that started it is killed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    stop = _told_when_orphaned() if sys.platform == "linux" else None
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=stop,
        )


def _told_when_orphaned() -> Callable[[], object]:
    prctl = ctypes.CDLL(None).prctl
    return partial(prctl, 1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def played(command: Sequence[str], log: str, folder: str) -> tuple[int, float]:
    """A command's exit code and seconds, on the machine that is asked; 127: it could not be started there.

    Where this is interrupted, the command saves and leaves.
    """
    began = time.monotonic()
    try:
        os.chdir(folder)
        process = start(command, Path(log))
    except OSError:
        return NOT_STARTED, time.monotonic() - began
    try:
        return process.wait(), time.monotonic() - began
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(PATIENCE)


EXECUTORS: dict[str, type[Executor]] = {"local": LocalExecutor, "ray": RayExecutor}
