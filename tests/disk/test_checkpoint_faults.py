"""Whatever stops a save, and wherever: is there a good checkpoint afterwards, and does the next save work?"""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

from mg2l_kalei.disk import checkpoint, durable, manifest, shards
from mg2l_kalei.disk.checkpoint import MANIFEST, CheckpointError, Checkpoints
from tests.saved_states import FILES, both, latest_step, numbers, save, saved, trials

SAVING = {checkpoint.__file__, durable.__file__, shards.__file__}  # the code that touches the disk


@contextmanager
def stopped_before_line(number: int, stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` before the ``number``-th line that the saving code executes."""
    left = number

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in SAVING:
            return None
        left -= event == "line"
        if left == 0:
            left = -1
            stop()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


N_TRIALS = 2  # new ones in each checkpoint


def raise_disk_error() -> None:
    raise OSError(28, "No space left on device")


def raise_interrupt() -> None:
    raise KeyboardInterrupt


def assert_sound(folder: Path, before: int, after: int) -> None:
    """The latest is one of the two with all of its trials, and the next save works and clears what was left."""
    checkpoints = Checkpoints(folder, 2)
    step = latest_step(checkpoints)
    assert (step, checkpoints.n_trials_saved) in ((before, N_TRIALS), (after, 2 * N_TRIALS))
    n_trials = checkpoints.n_trials_saved
    assert numbers(checkpoints) == list(range(n_trials))
    save(checkpoints, 9, 1)
    assert latest_step(checkpoints) == 9 and numbers(checkpoints) == list(range(n_trials + 1))
    steps = {f"step-{step:08d}" for step in (before, after, 9)}
    assert {path.name for path in folder.iterdir()} <= {"latest", "best", "replay", *steps}
    kept = [manifest.from_bytes(path.read_bytes()) for path in folder.glob(f"step-*/{MANIFEST}")]
    assert {path.name for path in (folder / "replay").iterdir()} == {entry.name for m in kept for entry in m.shards}


def gone_on_from(folder: Path, keep: int) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep)
    checkpoints.load_latest()
    return checkpoints


@pytest.fixture
def no_power_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushing to the disk is slow, and only power loss shows it missing: what is flushed has a test of its own."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


# Saving one step twice is the hard case: the new folder needs the old one's name.
@pytest.mark.usefixtures("no_power_loss")
@pytest.mark.parametrize(
    ("before", "after", "keep", "error"),
    [(1, 2, 2, raise_disk_error), (2, 2, 1, raise_interrupt)],
)
def test_an_exception_at_any_line_leaves_a_good_latest(
    tmp_path: Path, before: int, after: int, keep: int, error: Callable[[], None]
) -> None:
    saved(tmp_path / "start", before, n_trials=N_TRIALS)
    line, reached = 0, True
    while reached:
        line, reached = line + 1, False
        folder = shutil.copytree(tmp_path / "start", tmp_path / "run")
        checkpoints = gone_on_from(folder, keep)

        def stop() -> None:
            nonlocal reached
            reached = True
            error()

        with suppress(OSError, CheckpointError, KeyboardInterrupt), stopped_before_line(line, stop):
            save(checkpoints, after, N_TRIALS, best=True)
        assert_sound(folder, before, after)
        shutil.rmtree(folder)
    assert line > 100  # else the lines were not traced


@pytest.mark.parametrize(("before", "after", "keep"), [(1, 2, 2), (2, 2, 1)])
def test_a_kill_before_any_touch_of_the_disk_leaves_a_good_latest(
    tmp_path: Path, before: int, after: int, keep: int
) -> None:
    saved(tmp_path / "start", before, n_trials=N_TRIALS)
    touch, killed = 0, True
    while killed:
        touch += 1
        folder = shutil.copytree(tmp_path / "start", tmp_path / "run")
        child = os.fork()
        if child == 0:
            try:
                checkpoints = gone_on_from(folder, keep)
                kill_before_touch(touch)
                save(checkpoints, after, N_TRIALS, best=True)
            finally:
                os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        assert_sound(folder, before, after)
        shutil.rmtree(folder)
    assert touch > 15  # else the calls were not seen


def kill_before_touch(number: int) -> None:
    """From now on, kill this process before the ``number``-th call that opens, makes, renames or removes a file."""
    left = number

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        left -= event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")
        if left == 0:
            left = -1  # killing is audited too
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def test_a_kill_in_the_first_save_is_a_fresh_start(tmp_path: Path) -> None:
    line, temporary = 0, tmp_path / "tmp-step-00000001"
    while not temporary.exists():
        line += 1
        with pytest.raises(KeyboardInterrupt), stopped_before_line(line, raise_interrupt):
            saved(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == [temporary.name]
    assert Checkpoints(tmp_path, 1).load_latest() is None


def test_power_loss_finds_names_only_of_what_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def record(verb: str, call: Callable[..., None]) -> Callable[..., None]:
        def recorded(*arguments: Any) -> None:
            what = os.readlink(f"/proc/self/fd/{arguments[0]}") if verb == "flush" else str(arguments[0])
            done.append((verb, re.sub(r"tmp-\d+-", "tmp-", os.path.relpath(what, tmp_path))))
            call(*arguments)

        return recorded

    monkeypatch.setattr(os, "fsync", record("flush", fsync))
    monkeypatch.setattr(os, "rename", record("rename", rename))
    monkeypatch.setattr(os, "replace", record("rename", replace))
    saved(tmp_path, 1, n_trials=1)
    folder = "tmp-step-00000001"
    (shard,) = (tmp_path / "replay").iterdir()
    contents = [("flush", f"{folder}/{name}") for name in (*FILES, MANIFEST)]
    renamed = [("flush", folder), ("rename", folder), ("flush", ".")]
    assert done == placed(shard.name, "replay") + contents + renamed + placed("latest", ".")


def placed(name: str, folder: str) -> list[tuple[str, str]]:
    """A file that is written whole, and then gets its name."""
    temporary = os.path.normpath(f"{folder}/tmp-{name}.part")
    return [("flush", temporary), ("rename", temporary), ("flush", folder)]


def test_a_full_disk_is_named_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))  # the system refuses longer files, as a full disk would
    try:
        with pytest.raises(CheckpointError, match=r"step-00000002 was not saved .*too large"):
            checkpoints.save(both({"x": torch.zeros(1 << 16)}), 2)
        with pytest.raises(CheckpointError, match=r"step-00000002 was not saved .*too large"):
            checkpoints.save(both({}), 2, shard=trials(0, 1 << 12))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name for path in tmp_path.iterdir()} == {"step-00000001", "latest", "replay"}
    assert not list((tmp_path / "replay").iterdir())
    assert latest_step(checkpoints) == 1
