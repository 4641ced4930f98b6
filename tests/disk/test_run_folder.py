"""Can two processes write one run folder, or one process what lies elsewhere?"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_a_warning(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(file: object, how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    entered = False
    with RunFolder(tmp_path / "run").lock():
        entered = True
    assert entered and len(caplog.messages) == 1
    assert f"{tmp_path / 'run'} cannot be locked on its file system" in caplog.text


def test_another_error_of_locking_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, how: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output"), RunFolder(tmp_path).lock():
        pass


def test_a_lock_that_is_a_link_or_a_pipe_is_refused_and_nothing_is_cut(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "lock").symlink_to(precious)
    with pytest.raises(OSError, match="lock"), RunFolder(tmp_path).lock():
        pass
    assert precious.read_text() == "precious"
    (tmp_path / "lock").unlink()
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(OSError, match="lock is no regular file"), RunFolder(tmp_path).lock():
        pass


@pytest.mark.parametrize("name", ["events", "checkpoints", "checkpoints/replay", "evaluation", "figures"])
def test_folders_that_are_links_are_refused_by_name(tmp_path: Path, name: str) -> None:
    run = RunFolder(tmp_path / "run")
    link = run.path / name
    link.parent.mkdir(parents=True)
    run.refuse_links()
    link.symlink_to(tmp_path)
    with pytest.raises(OSError, match=f"{link} is a link"):
        run.refuse_links()
