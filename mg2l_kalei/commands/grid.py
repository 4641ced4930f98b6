"""``mg2l-kalei grid``: every combination of settings as a run of its own."""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from envs.core import setting
from mg2l_kalei.config import ConfigError
from mg2l_kalei.config.options import read_options
from mg2l_kalei.config.settings import rules
from mg2l_kalei.disk.output import printable, say
from mg2l_kalei.disk.run_folder import LOCKED
from mg2l_kalei.grid import EXECUTORS, Executor, Outcome, PlannedRun, combinations, planned
from mg2l_kalei.grid.executors import Resources
from mg2l_kalei.training.plan import train

LAST_LINES = 5  # of a failed run's log


@dataclasses.dataclass(frozen=True)
class GridOptions:
    executor: str = setting("local", "processes of this machine, or a Ray cluster", choices=EXECUTORS)
    n_parallel: int = setting(0, "local: runs at once; 0: one per CPU", low=0)
    n_cpus: int = setting(1, "ray: CPUs, and threads, of each run", low=1)
    n_gpus: float = setting(0.0, "ray: GPUs of each run, or a part of one", low=0.0)
    address: str | None = setting(None, "ray: of the cluster; null: one that is started here for the grid")
    list: bool = setting(False, "name the runs, with their numbers and what is done, and play none")
    index: int | None = setting(None, "play the run of this number alone, in this process: array jobs", low=0)


def grid(words: Sequence[str]) -> int:
    """Exit code 0: all runs are finished; 1: some failed; as of ``train`` for a single one (``index``)."""
    source, options = asked(words)
    runs = planned(combinations(source))
    if options.index is not None:
        if options.index >= len(runs):
            raise ConfigError([f"command line: index={options.index}: the grid has runs 0 to {len(runs) - 1}"])
        return train(runs[options.index].config).exit_code
    if options.list:
        for number, run in enumerate(runs):
            say(f"{number} {'finished' if run.is_finished() else 'to do'} {' '.join(run.words)} -> {run.folder.path}")
        return 0
    return _play([run for run in runs if not run.is_finished()], len(runs), options)


def asked(words: Sequence[str]) -> tuple[Sequence[str] | Path, GridOptions]:
    """What the grid is made from, the file that was named or words, and how it is to be played. Raises ConfigError."""
    own = rules(GridOptions())
    mine = [word for word in words if word.lstrip("-").partition("=")[0] in own and "=" in word]
    return _source([word for word in words if word not in mine]), read_options(mine, GridOptions())[1]


def _source(words: Sequence[str]) -> Sequence[str] | Path:
    files = [word for word in words if "=" not in word and not word.startswith("-")]
    if not words:
        raise ConfigError(["grid: expected a file, or settings such as algo=mappo,mg2l_kalei seed=0..4"])
    if not files:
        return words
    if len(words) > 1:
        raise ConfigError([f"grid: {files[0]} says all that there is to say, expected nothing beside it"])
    return Path(files[0])


def _play(runs: Sequence[PlannedRun], n_all: int, options: GridOptions) -> int:
    n_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    n_parallel = options.n_parallel or n_cpus
    is_local = options.executor == "local"
    resources = Resources(max(1, n_cpus // n_parallel) if is_local else options.n_cpus, options.n_gpus)
    executor = EXECUTORS[options.executor](n_parallel, resources, options.address)
    if n_all > len(runs):
        say(f"{n_all - len(runs)} of {n_all} runs are finished")
    failed = _failures(executor, runs)
    if failed:
        codes = Counter(outcome.exit_code for outcome in failed)
        reason = f"exit codes {', '.join(f'{code} ({n} times)' for code, n in sorted(codes.items()))}"
        say(f"{len(failed)} of {len(runs)} runs failed, {reason}; the same command tries them again", is_error=True)
    return 1 if failed else 0


def _failures(executor: Executor, runs: Sequence[PlannedRun]) -> list[Outcome]:
    """Play runs, say how each ended, and return those that failed.

    A run may be another's reference, and be locked while that trains it: it is played again once the others ended.
    """
    failed: list[Outcome] = []
    began, n_ended, waiting = time.monotonic(), 0, list(runs)
    while waiting:
        locked: list[Outcome] = []
        with closing(executor.play(waiting)) as outcomes:
            for outcome in outcomes:
                if _is_locked(outcome):
                    locked.append(outcome)
                    continue
                n_ended += 1
                failed += [outcome] * (outcome.exit_code != 0)
                left = (time.monotonic() - began) / n_ended * (len(runs) - n_ended)
                say(_line(outcome, (n_ended, len(runs)), left), is_error=outcome.exit_code != 0)
        if len(locked) == len(waiting):  # by somebody else's processes
            failed += locked
            for outcome in locked:
                say(_line(outcome, (len(runs), len(runs)), 0.0), is_error=True)
            break
        waiting = [outcome.run for outcome in locked]
    return failed


def _is_locked(outcome: Outcome) -> bool:
    return outcome.exit_code == 1 and LOCKED in _end_of_log(outcome)


def _end_of_log(outcome: Outcome) -> str:
    log = outcome.run.log
    text = log.read_text(errors="replace") if log.is_file() else ""
    return "\n".join(text.splitlines()[-LAST_LINES:])


def _line(outcome: Outcome, progress: tuple[int, int], left: float) -> str:
    """What is said of a run that ended; of one that failed also the end of its log."""
    took, rest = (str(timedelta(seconds=round(seconds))) for seconds in (outcome.seconds, left))
    how = "finished" if outcome.exit_code == 0 else f"failed (exit code {outcome.exit_code})"
    line = f"{progress[0]}/{progress[1]}, {rest} left: {outcome.run.name} {how} after {took}"
    if outcome.exit_code == 0:
        return line
    last = [f"    {printable(each)}" for each in _end_of_log(outcome).splitlines()]
    return "\n".join([f"{line}; {outcome.run.log} ends with", *last])
