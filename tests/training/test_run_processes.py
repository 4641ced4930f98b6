"""Does a run survive what happens to processes: kill -9 at any moment, SIGTERM, a second signal, a second process?"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from os import kill
from pathlib import Path
from typing import Any

import pytest

import train
from mg2l_kalei.disk.checkpoint import Checkpoints
from tests.small_runs import Remains, folder_of, remains, tiny

KILLED = -signal.SIGKILL
TERMINATED, INTERRUPTED, HUNG_UP = (128 + number for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
PATIENCE = 120.0  # seconds
ENDLESS: dict[str, Any] = {"n_iters": 1_000_000, "eval_interval": 0}


class Processes:
    """Client of ``forking``: importing everything takes seconds, so that it is done once."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.forking"]
        root = Path(train.__file__).parent
        self.log = folder / "log"
        self.running: set[int] = set()
        self.server = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, words: list[str], kill_at: int = 0) -> int:
        """Begin a training process; its number."""
        self.log.write_text("")
        process = self._ask({"words": words, "log": str(self.log), "kill_at": kill_at})
        self.running.add(process)
        return process

    def wait(self, process: int) -> int:
        """The exit code, once it has ended; minus the signal that ended it."""
        code = self._ask({"wait": process})
        self.running.discard(process)
        return code

    def wait_for(self, text: str) -> None:
        """Until the last process has said this."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.log.read_text():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)

    def close(self) -> None:
        """End the server, and processes that a failed test has left."""
        for process in self.running:
            kill(process, signal.SIGKILL)
        assert self.server.stdin
        self.server.stdin.close()
        self.server.wait(PATIENCE)

    def _ask(self, request: dict[str, object]) -> int:
        assert self.server.stdin and self.server.stdout
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    processes = Processes(tmp_path_factory.mktemp("processes"))
    yield processes
    processes.close()


@pytest.fixture(scope="module")
def unbroken(processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> tuple[Remains, int]:
    """What a run leaves that nothing happens to, and how many moments it has."""
    words = tiny(tmp_path_factory.mktemp("unbroken"))
    assert processes.wait(processes.start(words)) == 0
    counted = re.search(r"(\d+) moments", processes.log.read_text())
    assert counted
    return remains(folder_of(words)), int(counted[1])


def assert_survives(processes: Processes, folder: Path, kill_at: int, expected: Remains, *system: str) -> None:
    """``system``: family and recipe."""
    words = tiny(folder, *system)
    assert processes.wait(processes.start(words, kill_at)) == KILLED, kill_at
    assert processes.wait(processes.start(words)) == 0, processes.log.read_text()
    assert remains(folder_of(words)) == expected, kill_at


@pytest.mark.parametrize("share", [0.0, 0.35, 0.97])
def test_a_run_killed_at_any_moment_ends_as_an_unbroken_one_by_the_same_command(
    processes: Processes, tmp_path: Path, share: float, unbroken: tuple[Remains, int]
) -> None:
    expected, n_moments = unbroken
    assert_survives(processes, tmp_path, 1 + int(share * n_moments), expected)


@pytest.mark.slow
def test_a_run_killed_at_each_of_its_moments_ends_as_an_unbroken_one(
    processes: Processes, tmp_path: Path, unbroken: tuple[Remains, int]
) -> None:
    expected, n_moments = unbroken
    assert n_moments > 50
    for moment in range(1, n_moments + 1):
        assert_survives(processes, tmp_path / str(moment), moment, expected)


def test_a_run_killed_again_and_again_ends_as_an_unbroken_one(
    processes: Processes, tmp_path: Path, unbroken: tuple[Remains, int]
) -> None:
    words = tiny(tmp_path)
    for kill_at in (30, 12, 5):
        assert processes.wait(processes.start(words, kill_at)) == KILLED
    assert processes.wait(processes.start(words)) == 0
    assert remains(folder_of(words)) == unbroken[0]


@pytest.mark.parametrize(
    ("env", "algo", "learned"),
    [
        ("toy-arms", "mg2l_kalei_qmix", "train/td_loss"),
        ("toy-corners", "mg2l_kalei_matd3", "train/td_loss"),
        ("toy-corners", "mappo_model", "world_model/loss"),
    ],
)
def test_a_run_that_learns_from_a_replay_survives_being_killed_too(
    processes: Processes, tmp_path: Path, env: str, algo: str, learned: str
) -> None:
    """Early, in the midst, and at one of the last touches of the disk, those of a save."""
    unbroken = tiny(tmp_path / "unbroken", env, algo)
    assert processes.wait(processes.start(unbroken)) == 0, processes.log.read_text()
    counted = re.search(r"(\d+) moments", processes.log.read_text())
    assert counted
    expected = remains(folder_of(unbroken))
    assert any(learned in row for row in expected.metrics)
    for share in (0.2, 0.6, 0.97):
        assert_survives(processes, tmp_path / str(share), int(share * int(counted[1])), expected, env, algo)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, TERMINATED), (signal.SIGINT, INTERRUPTED), (signal.SIGHUP, HUNG_UP)]
)
def test_a_signal_ends_the_iteration_saves_and_leaves_with_its_code(
    processes: Processes, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    words = tiny(tmp_path, **ENDLESS, checkpoint_interval=1_000_000)
    process = processes.start(words)
    metrics, deadline = folder_of(words).metrics, time.monotonic() + PATIENCE
    while not (metrics.is_file() and metrics.read_bytes()):
        assert time.monotonic() < deadline, processes.log.read_text()
        time.sleep(0.01)
    kill(process, number)
    assert processes.wait(process) == code
    last = remains(folder_of(words)).metrics[-1]["iteration"]
    assert last > 0 and Checkpoints(folder_of(words).checkpoints, 1).steps() == [0, last]
    assert f"stopped and saved at iteration {last}; the same command goes on" in processes.log.read_text()


def test_a_second_signal_ends_the_process_at_once(processes: Processes, tmp_path: Path) -> None:
    words = tiny(tmp_path, **ENDLESS, learner__n_epochs=1_000_000)  # an iteration without end
    process = processes.start(words)
    processes.wait_for("iterations on cpu")
    time.sleep(0.3)  # into the iteration
    for _ in range(2):
        kill(process, signal.SIGTERM)
        time.sleep(0.05)
    assert processes.wait(process) == TERMINATED
    assert Checkpoints(folder_of(words).checkpoints, 1).steps() == [0]


def test_a_second_process_on_the_same_run_is_refused_and_the_first_unharmed(
    processes: Processes, tmp_path: Path
) -> None:
    words = tiny(tmp_path, **ENDLESS)
    first = processes.start(words)
    processes.wait_for("iterations on cpu")
    assert processes.wait(processes.start(words)) == 1
    assert f"is being written by process {first}" in processes.log.read_text()
    kill(first, signal.SIGTERM)
    assert processes.wait(first) == TERMINATED
    rows = remains(folder_of(words)).metrics
    assert [row["iteration"] for row in rows] == list(range(1, len(rows) + 1))
