"""Is a folder that was changed behind a run's back refused or set right, and nothing outside of it written?"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import mg2l_kalei.__main__ as program
import train
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.types import Metrics
from tests.small_runs import copy_of, files_in, folder_of, tiny


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of two iterations."""
    words = tiny(tmp_path_factory.mktemp("results"), n_iters=2)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)
        assert train.main(words) == 0
    return folder_of(words)


@pytest.fixture
def run(finished: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of it where the command ``tiny(tmp_path)`` looks."""
    return copy_of(finished, tmp_path.joinpath(*finished.path.parts[-3:]))


def forbid(trainer: MetaTrainer) -> Metrics:
    raise AssertionError("trained on")


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def test_metrics_without_config_and_checkpoints_are_no_fresh_start(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(run.checkpoints)
    run.config.unlink()
    left = files_in(run.path)
    with monkeypatch.context() as patched:
        patched.setattr(MetaTrainer, "iterate", forbid)
        assert train.main(tiny(tmp_path, n_iters=2)) == 1
    error = capsys.readouterr().err
    assert f"error: {run.path} has metrics.jsonl but no config.yaml" in error and "resume=never" in error
    assert files_in(run.path) == left
    assert train.main([*tiny(tmp_path, n_iters=2), "resume=never"]) == 0
    assert files_in(run.path.with_name(f"{run.path.name}.old1")) == left


def test_lost_metrics_are_mentioned(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(tiny(tmp_path, n_iters=2)) == 0
    assert "lost" not in capsys.readouterr().err
    run.metrics.unlink()
    assert train.main(tiny(tmp_path, n_iters=3)) == 0
    expected = f"warning: {run.metrics} holds nothing after iteration 0, and the run goes on from 2: "
    assert expected in capsys.readouterr().err


def test_a_checkpoint_of_another_run_is_refused(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tiny(tmp_path, n_iters=3, seed=7)
    assert train.main(other) == 0
    shutil.copytree(folder_of(other).checkpoints, run.checkpoints, dirs_exist_ok=True)
    left = files_in(run.path)
    for main, words in ((train.main, tiny(tmp_path, n_iters=4)), (program.main, ["evaluate", str(run.path)])):
        capsys.readouterr()
        assert main(words) == 1
        error = last_line(capsys.readouterr().err)
        assert error.startswith("error: ") and "step-00000003 is a checkpoint of another run (seed=7, not 0" in error
    assert files_in(run.path) == left


@pytest.mark.parametrize("name", ["events", "checkpoints", "evaluation", "figures", "export"])
def test_nothing_is_written_through_links(
    run: RunFolder, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (run.path / name).rename(elsewhere) if (run.path / name).exists() else elsewhere.mkdir()
    (run.path / name).symlink_to(elsewhere)
    left = files_in(elsewhere)
    for main, words in ((train.main, tiny(tmp_path, n_iters=3)), (program.main, ["evaluate", str(run.path)])):
        capsys.readouterr()
        assert main(words) == 1
        assert last_line(capsys.readouterr().err).startswith(f"error: {run.path / name} is a link")
    for command in ("render", "curves"):
        assert program.main([command, str(run.path)]) == 1
    assert files_in(elsewhere) == left
    assert train.main([*tiny(tmp_path, n_iters=1), "resume=never"]) == 0  # the way out


def test_files_that_are_links_are_replaced(run: RunFolder, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    written = [run.config, run.evaluation / "train.txt", run.checkpoints / "latest", *run.evaluation.glob("*.json")]
    for path in written:
        if path not in (run.config, run.checkpoints / "latest"):
            path.unlink()
            path.symlink_to(precious)
    assert train.main(tiny(tmp_path, n_iters=3)) == 0
    assert program.main(["evaluate", str(run.path)]) == 0
    assert precious.read_text() == "precious"


def test_what_stopped_writes_left_goes_at_the_next_start(run: RunFolder, tmp_path: Path) -> None:
    for folder in (run.path, run.evaluation, run.checkpoints):
        (folder / "tmp-1-train.json.part").write_text("{")
    assert train.main(tiny(tmp_path, n_iters=2)) == 0
    assert not list(run.path.rglob("tmp-*"))


def of_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def of_endless_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def of_deep_nesting(path: Path) -> None:
    path.write_text("[" * 100_000)


@pytest.mark.parametrize("make", [of_pipe, of_endless_device, of_deep_nesting])
@pytest.mark.parametrize("name", ["config.yaml", "tasks.json"])
def test_a_file_in_whose_place_is_something_else_is_one_line(
    run: RunFolder, name: str, make: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    make(run.path / name)
    capsys.readouterr()
    assert program.main(["evaluate", str(run.path)]) == 2
    error = capsys.readouterr().err
    assert str(run.path) in error and error.count("\n") == 1


def test_what_a_config_says_does_not_steer_the_terminal(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    run.config.write_text(run.config.read_text().replace("device: cpu", 'device: "\\e[2J"'))
    capsys.readouterr()
    assert program.main(["evaluate", str(run.path)]) == 2
    error = capsys.readouterr().err
    assert "device=\\x1b[2J" in error and "\x1b" not in error


def test_a_run_of_an_earlier_release_is_told_so_in_one_line(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    run.config.write_text(run.config.read_text().replace("latent_dim:", "width: 3\n  latent_dim:", 1))
    capsys.readouterr()
    assert program.main(["evaluate", str(run.path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"{run.path}: config.yaml: encoder.width=3: ") and "made by an earlier release" in error
    assert error.count("\n") == 1
