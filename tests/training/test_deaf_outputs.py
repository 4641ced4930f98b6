"""Does a run go on where its output is closed or full, and does an evaluation that cannot be written lose nothing?"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mg2l_kalei.__main__ as program
import train
from mg2l_kalei.disk import durable
from mg2l_kalei.disk.run_folder import RunFolder
from tests.small_runs import copy_of, files_in, folder_of, remains, tiny

ROOT = Path(train.__file__).parent
FAST = """
import sys, train
from mg2l_kalei.training import assessment
assessment.save_picture = lambda path, draw: False
sys.exit(train.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    words = tiny(tmp_path_factory.mktemp("results"), n_iters=1)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)
        assert train.main(words) == 0
    return folder_of(words)


def slow(how: str) -> Any:
    """It starts processes, as the others do."""
    return pytest.param(how, marks=pytest.mark.slow)


@pytest.mark.parametrize("how", [slow("full"), "closed", slow("a broken pipe")])
def test_training_goes_on_without_anybody_to_listen(tmp_path: Path, how: str, finished: RunFolder) -> None:
    command = [sys.executable, "-c", FAST, *tiny(tmp_path, n_iters=1)]
    if how == "closed":
        done = subprocess.run(["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command], cwd=ROOT, check=False)
    elif how == "full":
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=full, check=False)
    else:
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, check=False)
        os.close(writer)
        assert done.stderr.count(b"writing to stdout failed") == 1 and b"Traceback" not in done.stderr
    assert done.returncode == 0
    assert remains(folder_of(tiny(tmp_path, n_iters=1))) == remains(finished)
    assert list(folder_of(tiny(tmp_path, n_iters=1)).evaluation.glob("*.json"))


@pytest.fixture
def read_only(finished: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run's folder that nothing can be written in; permissions would not stop every user."""
    run = copy_of(finished, tmp_path / "read-only" / finished.path.name)
    real = os.open

    def refuse(path: object, flags: int, *mode: int, **named: object) -> int:
        if str(path).startswith(str(run.path)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return real(path, flags, *mode, **named)  # type: ignore[arg-type]

    def refuse_content(path: Path, content: bytes) -> None:
        if path.is_relative_to(run.path):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        write(path, content)

    write = durable.write_durably
    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(durable, "write_durably", refuse_content)
    monkeypatch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)
    return run


def test_an_evaluation_that_cannot_be_written_is_printed_with_a_warning(
    read_only: RunFolder, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = files_in(read_only.path)
    assert program.main(["evaluate", str(read_only.path), "trials=3"]) == 1
    assert "4 tasks x 3 trials" in capsys.readouterr().out
    raw = read_only.evaluation / "train-16-3x2.json"
    assert f"writing {raw} failed (OSError: [Errno {errno.EROFS}] Read-only file system" in caplog.text
    assert files_in(read_only.path) == before


def test_an_evaluation_can_be_written_elsewhere(
    read_only: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, out = files_in(read_only.path), tmp_path / "new" / "out"
    assert program.main(["evaluate", str(read_only.path), "trials=3", f"out={out}"]) == 0
    place = out / "mg2l_kalei" / read_only.path.name
    assert capsys.readouterr().out.endswith(f"run folder: {place}\n")
    assert set(files_in(place)) == {"evaluation/train-3x2.txt", "evaluation/train-16-3x2.json"}
    assert json.loads((place / "evaluation" / "train-16-3x2.json").read_text())["env_steps"] == 16
    assert files_in(read_only.path) == before


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_played(
    finished: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mg2l_kalei.training.assessment.assess", lambda *given, **named: 1 / 0)
    (tmp_path / "file").write_text("")
    assert program.main(["evaluate", str(finished.path), f"out={tmp_path / 'file'}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"command line: out={tmp_path / 'file'}: not writable: ") and error.count("\n") == 1


def test_runs_of_one_name_have_no_place_beside_each_other(
    finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tiny(tmp_path, n_iters=1, seed=1)
    assert train.main(other) == 0
    renamed = copy_of(folder_of(other), tmp_path / "elsewhere" / finished.path.name)
    capsys.readouterr()
    words = ["evaluate", str(finished.path), str(renamed.path), f"out={tmp_path / 'out'}"]
    assert program.main(words) == 2
    assert "2 runs would write into" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_training_in_a_read_only_folder_is_one_line(
    read_only: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mg2l_kalei.training.training_run.run_dir", lambda config: read_only.path)
    assert train.main(tiny(read_only.path.parent, n_iters=2)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Read-only file system" in error and error.count("\n") == 1


def test_a_film_that_cannot_be_written_is_one_line(
    finished: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*given: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", refuse)
    capsys.readouterr()
    assert program.main(["render", str(finished.path), f"out={tmp_path / 'new' / 'film.gif'}"]) == 1
    assert capsys.readouterr().err == f"error: [Errno {errno.ENOSPC}] No space left on device\n"
    assert not list(tmp_path.rglob("*.gif"))
