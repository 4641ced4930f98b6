"""Is a run extended from its folder alone, and does it stop by the clock and by a batch system's signal?"""

from __future__ import annotations

import os
import signal
from dataclasses import fields
from pathlib import Path

import pytest

import train
from mg2l_kalei import __main__ as program
from mg2l_kalei import configure
from mg2l_kalei.commands.resume import ResumeOptions
from mg2l_kalei.config import RunConfig, load, run_dir
from mg2l_kalei.config.options import read_options
from mg2l_kalei.config.run_config import HASHED_ONCE, _hashed_name
from mg2l_kalei.config.settings import rules
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.training.saved_run import read_config
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA
from mg2l_kalei.training.training_run import TrainingRun
from mg2l_kalei.types import Metrics
from tests.small_runs import copy_of, folder_of, remains, tiny

STEPS = 16  # of an iteration: 4 rows, 4 steps


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingRun, "_finish", lambda self, references, stop: None)


def stop_after(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A batch system's signal in iteration ``number``."""
    iterate = MetaTrainer.iterate

    def told(trainer: MetaTrainer) -> Metrics:
        if trainer.iteration == number - 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        return iterate(trainer)

    monkeypatch.setattr(MetaTrainer, "iterate", told)


def test_a_run_that_was_moved_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole, first = (tiny(tmp_path / name, n_iters=2) for name in ("whole", "first"))
    assert train.main(whole) == 0
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 1)
        assert train.main(first) == 128 + signal.SIGUSR1
    moved = copy_of(folder_of(first), tmp_path / "moved")
    assert program.main(["resume", str(moved.path)]) == 0
    assert remains(moved) == remains(folder_of(whole))
    assert remains(folder_of(first)).step == "step-00000001"
    assert program.main(["resume", str(moved.path), f"total_env_steps={3 * STEPS - 1}"]) == 0
    assert read_config(moved).n_iters == 3 and remains(moved).step == "step-00000003"


def test_what_cannot_be_together_is_refused_and_leaves_the_run_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*tiny(tmp_path, n_iters=1), "device=cpu"]
    assert train.main(words) == 0
    before = remains(folder_of(words))
    assert program.main(["resume", str(folder_of(words).path), "gpu_id=0", "n_iters=2"]) == 2
    assert "gpu_id=0 with device=cpu" in capsys.readouterr().err and remains(folder_of(words)) == before


def test_a_length_on_the_command_line_is_stronger_than_another_in_a_file(tmp_path: Path) -> None:
    recipe = tmp_path / "long.yaml"
    kinds = "encoder: {kind: none}\nsharing: {kind: full}\nlearner: {kind: mappo}\n"
    recipe.write_text(f"{kinds}total_env_steps: 100_000\n")
    config = configure(f"--algo={recipe}", "--env=toy-corners", "n_iters=3")
    assert (config.n_iters, config.total_env_steps) == (3, None)
    assert configure(f"--algo={recipe}", "--env=toy-corners").total_env_steps == 100_000


def test_what_merely_extends_a_run_may_be_set_when_it_goes_on() -> None:
    names = {field.name for field in fields(ResumeOptions)}
    extending = {name for name, rule in rules(RunConfig).items() if rule.extends}
    assert extending - names == {"resume", "results_dir", "run_name"}  # of its place, or of a look at it
    assert read_options(["sinks=[csv]", "max_hours=2"], ResumeOptions())[1].sinks == ("csv",)


def test_the_length_of_a_run_is_given_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = ["n_iters=3", "total_env_steps=9"]
    assert train.main([*tiny(tmp_path), "total_env_steps=9"]) == program.main(["resume", str(tmp_path), *both]) == 2
    assert capsys.readouterr().err.count("expected one of them") == 2
    assert program.main(["resume", str(tmp_path)]) == program.main(["resume"]) == 2


def test_more_evaluation_trials_go_on_with_the_run_and_fewer_iterations_leave_its_config(tmp_path: Path) -> None:
    run = folder_of(tiny(tmp_path, n_iters=2))
    assert train.main(tiny(tmp_path, n_iters=2)) == train.main(tiny(tmp_path, n_iters=3, eval_trials=3)) == 0
    before = run.config.read_text()
    assert read_config(run).eval_trials == 3
    assert train.main(tiny(tmp_path, n_iters=1)) == 0
    assert run.config.read_text() == before and remains(run).step == "step-00000003"


def test_a_run_is_found_under_the_name_of_an_earlier_release(tmp_path: Path) -> None:
    config = load(tiny(tmp_path), SCHEMA, CONFIG_DIR).config
    now = run_dir(config)
    former = now.with_name(_hashed_name(config, {name: getattr(config, name) for name in HASHED_ONCE}))
    assert former != now
    former.mkdir(parents=True)
    RunFolder(former).config.write_text("")
    assert run_dir(config) == former


def test_a_time_limit_saves_and_has_its_exit_code(tmp_path: Path) -> None:
    words = tiny(tmp_path, n_iters=2, max_hours=1e-9)
    assert train.main(words) == 128 + signal.SIGALRM
    assert (folder_of(words).checkpoints / "latest").read_text().strip() == "step-00000000"
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
