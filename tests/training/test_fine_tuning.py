"""Does training on one task alone improve what a run does there, and is it a line of a report?"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

import train
from envs.core import Refusal
from mg2l_kalei import __main__ as program
from mg2l_kalei.training.fine_tuning import fine_tuned, fine_tuned_result
from mg2l_kalei.training.saved_run import load_run
from tests.small_runs import files_in, folder_of, tiny

SMALL: dict[str, Any] = {
    "n_iters": 2,
    "n_rows": 16,
    "eval_interval": 0,
    "env.episode_steps": 10,
    "learner.actor_lr": 2e-2,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the line none, on corners that it cannot tell apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)
        words = tiny(tmp_path_factory.mktemp("results"), algo="mappo", **SMALL)
        assert train.main(words) == 0
    return folder_of(words).path


def test_a_copy_learns_its_corner_and_the_run_stays_as_it_was(run: Path) -> None:
    loaded = load_run(run)
    before = {name: value.clone() for name, value in loaded.system.learner.networks["actor"].state_dict().items()}
    longer = fine_tuned_result(loaded, "train", 16 * 10 * 12, fresh=False)
    shorter = fine_tuned_result(loaded, "train", 10, fresh=False)
    assert longer.returns.shape == shorter.returns.shape == (4, 2, 2)
    assert longer.env_steps == loaded.env_steps + 1920 and shorter.env_steps == loaded.env_steps + 10
    assert longer.returns.mean() > shorter.returns.mean() + 1  # an ignorant team loses about 14, an informed one 7
    for name, value in loaded.system.learner.networks["actor"].state_dict().items():
        assert value.equal(before[name])


def test_a_copy_begins_with_the_runs_weights_and_scratch_with_others(run: Path) -> None:
    loaded = load_run(run)

    def distance(*, fresh: bool) -> float:
        """From the run's actor, after a single trial."""
        system, _ = fine_tuned(loaded, 0, 10, fresh=fresh)
        pairs = zip(
            system.learner.networks["actor"].parameters(),
            loaded.system.learner.networks["actor"].parameters(),
            strict=True,
        )
        return sum(float((ours - theirs).detach().square().sum()) for ours, theirs in pairs)

    assert 0 < 4 * distance(fresh=False) < distance(fresh=True)


def test_as_many_steps_are_made_as_rows_can_share(run: Path) -> None:
    """70 trials in iterations of 16 rows at most are five of 14."""
    _, made = fine_tuned(load_run(run), 0, 700)
    assert made == 700


def test_both_are_lines_of_a_report(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mg2l_kalei.commands.report.save_picture", lambda path, draw, *others: False)
    before = files_in(run)
    assert program.main(["finetune", str(run), "steps=[160,320]"]) == 0
    assert program.main(["finetune", str(run), "steps=160", "scratch=true"]) == 0
    assert before.items() <= files_in(run).items()
    program.main(["report", str(run), f"out={tmp_path}", "resamples=100"])
    with (tmp_path / "scores.csv").open() as file:
        steps = {row["method"]: int(row["env_steps"]) for row in csv.DictReader(file)}
    assert steps == {"none": 320, "mappo+finetune-160": 480, "mappo+finetune-320": 640, "mappo+scratch-160": 160}


def test_what_cannot_be_trained_on_one_task_is_refused_in_a_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_in(run)
    for words in (["steps=9"], ["steps=[]"], ["split=test"]):
        assert program.main(["finetune", str(run), *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert files_in(run) == before


def test_what_would_explore_anew_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_run(run)
    monkeypatch.setattr(loaded.system.learner, "is_on_policy", False)
    with pytest.raises(Refusal, match=r"learner\.kind=mappo would begin by exploring anew: expected an on-policy one$"):
        fine_tuned_result(loaded, "train", 160, fresh=False)
