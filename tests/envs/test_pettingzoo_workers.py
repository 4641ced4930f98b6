"""Do worker processes play the same numbers, and does a worker that fails end the run in time and leave nothing?"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from envs.core import EnvFailure, Task
from envs.pettingzoo import workers as workers_module
from envs.pettingzoo.batch import PettingZooBatch
from envs.pettingzoo.factory import versions
from envs.pettingzoo.trial import try_out
from tests.envs.pettingzoo_families import acted, batch, family, random_actions

ROOT = Path(__file__).parents[2]
FAULTS = "tests.envs.pettingzoo_faults"
LATE = 60.0  # s: more than a worker takes to start on a busy machine, less than one that hangs


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No worker is left after a test, and no shared memory is left at any time: it has no name."""
    named = {path.name for path in Path("/dev/shm").glob("*")}
    yield
    assert multiprocessing.active_children() == []
    assert {path.name for path in Path("/dev/shm").glob("py*")} <= named


@pytest.fixture
def tried_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environments are tried by this process: another one takes seconds to start."""

    def try_out_all(factory: str, tasks: Sequence[Task], timeout: float) -> object:
        return [try_out(factory, task) for task in tasks], versions(factory)

    monkeypatch.setattr(workers_module, "try_in_worker", try_out_all)


def played(rows: PettingZooBatch) -> Iterator[Tensor]:
    """Everything that is shown in two episodes, of which rows end in different steps, with other tasks in between."""
    tasks = torch.arange(5) % 2
    yield from (x for x in rows.reset(tasks) if x is not None)
    for action in random_actions(rows, 8):
        result = rows.step(action)
        yield from (x for x in result if x is not None)
        ended = result.terminated | result.truncated
        if ended.any():
            yield from (x for x in rows.reset(1 - tasks, ended) if x is not None)


@pytest.mark.usefixtures("tried_here")
def test_any_number_of_workers_plays_the_same_numbers_and_what_was_shown_stays() -> None:
    tasks = ("goal=-1 max_cycles=3", "goal=1 max_cycles=5")
    here = [x.clone() for x in played(batch("walk", 5, train=tasks))]
    workers = []
    makes = family("walk", train=tasks, n_workers=2).make
    for _ in range(2):  # the second batch is played by the workers of the first
        there = list(played(makes(5, torch.device("cpu"), torch.Generator().manual_seed(0))))
        assert len(there) == len(here) and all(map(torch.equal, there, here))
        workers.append({process.pid for process in multiprocessing.active_children()})
    assert len(workers[0]) == 2 and workers[0] == workers[1]


def before_it_fails(how: str, timeout: float) -> tuple[PettingZooBatch, Tensor]:
    """Rows of an environment that fails in the next step with these actions; row 0 is the first to play."""
    rows = batch(f"{FAULTS}:fails", 2, train=(f"how={how}",), n_workers=1, worker_timeout=timeout)
    acted(rows, *[(1, 1)] * 4)
    return rows, torch.ones(2, 2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("how", "timeout", "message"),
    [
        ("exit", LATE, r"the worker process died \(exit code 3\)"),
        ("raise", LATE, r"RuntimeError: the walls came down \(pettingzoo_faults.py, line \d+\)"),
        ("interrupt", LATE, r"KeyboardInterrupt: \(pettingzoo_faults.py, line \d+\)"),
        ("sleep", 3.0, "no answer within 3 s"),
    ],
)
@pytest.mark.usefixtures("tried_here")
def test_a_worker_that_fails_ends_the_run_naming_family_task_and_seed(how: str, timeout: float, message: str) -> None:
    rows, action = before_it_fails(how, timeout)
    seed = torch.randint(2**31, (2,), generator=torch.Generator().manual_seed(0))[0]
    started = time.monotonic()
    with pytest.raises(EnvFailure) as failure:
        rows.step(action)
    assert time.monotonic() - started < LATE
    assert re.fullmatch(f"pettingzoo, task 'how={how}', seed {seed}: {message}", str(failure.value))
    assert multiprocessing.active_children() == []
    with pytest.raises(EnvFailure, match="its workers have ended"):
        rows.step(action)


@pytest.mark.parametrize(
    ("factory", "task", "message"),
    [
        ("fails", "how=exit step=1", r"the worker process died \(exit code 3\)"),
        ("fails", "how=raise step=1", r"RuntimeError: the walls came down \(pettingzoo_faults.py, line \d+\)"),
        ("hangs_on_close", "", "no answer within 3 s"),
    ],
)
def test_what_workers_are_to_play_is_tried_by_a_process_that_is_watched(factory: str, task: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{FAULTS}:{factory}, task '{task or 'no keywords'}': {message}$"):
        family(f"{FAULTS}:{factory}", train=(task,), n_workers=1, worker_timeout=3.0)


UNGUARDED = """
from tests.envs.pettingzoo_families import family
family("walk", n_workers=1)
"""


def test_a_script_that_starts_workers_without_a_main_guard_is_told_so_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1 and run.stderr.count("Traceback") == 1
    line = run.stderr.splitlines()[-1]
    assert "the worker process died as it started (exit code 1): a script that starts workers must be a file" in line
    assert line.endswith('under `if __name__ == "__main__":`')


@pytest.mark.usefixtures("tried_here")
def test_an_interrupt_reaches_this_process_alone_and_ends_the_workers(request: pytest.FixtureRequest) -> None:
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it may be ignored
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, usual))
    rows, action = before_it_fails("sleep", LATE)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGINT)  # as a terminal does, to all
    os.kill(worker.pid, signal.SIGTERM)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        rows.step(action)


ORPHAN = """
import multiprocessing
from tests.envs.test_pettingzoo_workers import before_it_fails
rows, action = before_it_fails("sleep", 1000.0)
print(multiprocessing.active_children()[0].pid, flush=True)
rows.step(action)
"""


@pytest.mark.slow
def test_a_worker_that_hangs_ends_with_a_killed_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHAN], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        time.sleep(0.5)  # so that it hangs
        parent.kill()
    deadline = time.monotonic() + LATE
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{worker}").exists()
