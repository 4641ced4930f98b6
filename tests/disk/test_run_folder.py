"""Can two processes write one run folder, and is a file ever seen half-written?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mg2l_kalei.disk.durable import write_atomically, write_json
from mg2l_kalei.disk.run_folder import RunFolder, RunFolderLocked

HOLDER = """
import sys, time
from pathlib import Path
from mg2l_kalei.disk.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_by_pid_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "new" / "run")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(run.path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout and holder.stdout.readline() == "locked\n"
        with pytest.raises(RunFolderLocked, match=rf"{run.path} .*process {holder.pid} on "), run.lock():
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with run.lock():
        assert f"process {os.getpid()} on" in (run.path / "lock").read_text()


def test_one_process_cannot_lock_twice_but_can_lock_again(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for _ in range(2):
        with run.lock(), pytest.raises(RunFolderLocked, match=f"process {os.getpid()}"), run.lock():
            pass


def test_an_error_inside_frees_the_lock(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(ZeroDivisionError), run.lock():
        raise ZeroDivisionError
    with run.lock():
        pass


def test_everything_of_a_run_lies_inside_its_folder_and_apart(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    parts = [run.config, run.tasks, run.metrics, run.events, run.checkpoints, run.evaluation, run.figures]
    assert len({*parts, tmp_path / "lock"}) == len(parts) + 1
    assert all(part.parent == tmp_path for part in parts)


def test_a_write_that_fails_leaves_the_old_content_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "made" / "tasks.json"
    write_json(path, {"b": [1, 0.1], "a": None})
    before = path.read_text()
    assert before.endswith("}\n")

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "half")
    assert path.read_text() == before
    assert os.listdir(path.parent) == ["tasks.json"]


def test_json_without_meaning_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"score": float("nan")})
    assert not list(tmp_path.iterdir())
