"""Do other evaluations leave the run's own alone, and is a run played on another family where it fits?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import train
from mg2l_kalei import __main__ as program
from mg2l_kalei.commands.naming import of_family
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.evaluation.reports.stored import find_runs
from mg2l_kalei.evaluation.results import AdaptationResult, from_json, raw_name
from mg2l_kalei.training.system import SCHEMA
from tests.small_runs import files_in, folder_of, tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    words = tiny(tmp_path_factory.mktemp("results"), n_iters=1, eval_interval=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "mg2l_kalei.training.assessment.save_picture", lambda path, draw: path.parent.mkdir(exist_ok=True)
        )
        assert train.main(words) == 0
    return folder_of(words)


@pytest.fixture(autouse=True)
def blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    def blank(path: Path, draw: object) -> bool:
        path.parent.mkdir(exist_ok=True)
        path.write_text("blank")
        return True

    monkeypatch.setattr("mg2l_kalei.training.assessment.save_picture", blank)


def new_files(run: RunFolder, *options: str) -> set[str]:
    """That an evaluation adds; those that were there stay as they were."""
    before = files_in(run.path)
    assert program.main(["evaluate", str(run.path), "split=train", *options]) == 0
    after = files_in(run.path)
    assert before.items() <= after.items()
    return set(after) - set(before)


def test_an_evaluation_of_other_settings_has_files_of_its_own(run: RunFolder) -> None:
    assert program.main(["evaluate", str(run.path)]) == 0
    other = new_files(run, "episodes=1", "trials=3", "actions=sampled")
    assert {"evaluation/train-3x1-sampled.txt", "figures/adaptation-train-3x1-sampled.png"} < other
    assert new_files(run, "episodes=1", "trials=3", "actions=sampled") == set()


def test_a_run_is_played_on_another_family_of_its_sizes(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    new = new_files(run, "env=toy-corners", "env.episode_steps=5")
    assert "evaluation/train-on-toy-corners-env.episode_steps=5.txt" in new
    assert "transfer: trained on toy-corners" in capsys.readouterr().out


def test_an_encoder_looks_on_while_another_team_acts(run: RunFolder) -> None:
    def read(actions: str) -> AdaptationResult:
        (path,) = run.evaluation.glob(f"train-*{actions}.json")
        return from_json(path.read_text())

    new = new_files(run, "watch=random")
    assert {"evaluation/train-by-random.txt", "figures/adaptation-train-by-random.png"} < new
    added = new_files(run, f"watch={run.path}")
    assert f"evaluation/train-by-mg2l_kalei-{run.path.name}.txt" in added
    assert not any("masks" in name for name in added), "they are not of the team that acted"
    own = from_json(run.evaluation.joinpath(raw_name("train", 16, (2, 2), "mode")).read_text())
    by_itself, at_random = read(f"-by-mg2l_kalei-{run.path.name}"), read("-by-random")
    np.testing.assert_array_equal(by_itself.returns, own.returns)  # it is watched at the same play
    np.testing.assert_allclose(by_itself.probe.accuracy, own.probe.accuracy)
    assert at_random.actions == "by random" and at_random.is_looking_on and not own.is_looking_on
    assert not np.isclose(at_random.returns, own.returns).any()
    (known,) = find_runs([str(run.path)], SCHEMA)
    assert [result.actions for result in known.results] == ["mode"]
    assert {result.actions for result in known.watched} == {"by random", f"by mg2l_kalei {run.path.name}"}


def test_an_encoder_looks_on_in_other_tasks_too(run: RunFolder) -> None:
    new = new_files(run, "watch=random", "env=toy-corners", "env.episode_steps=5")
    (told,) = (Path(name).stem for name in new if name.endswith(".txt"))
    assert told.startswith("train-on-toy-corners-env.episode_steps=5") and told.endswith("-by-random")


def test_who_infers_nothing_watches_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = tiny(tmp_path, algo="mappo", n_iters=1, eval_interval=0)
    assert train.main(words) == 0
    capsys.readouterr()
    folder = str(folder_of(words).path)
    for options, problem in (
        (("watch=random",), "infers no task"),
        (("watch=nowhere",), "watch=nowhere: expected random, or a run's folder"),
        (("watch=random", "actions=mode"), "expected no actions=: another team acts"),
    ):
        assert program.main(["evaluate", folder, *options]) == 2
        assert problem in capsys.readouterr().err


def test_names_of_files_differ_where_settings_do_and_are_not_too_long() -> None:
    alike = (["env.x=[1,2]"], ["env.x=[1,-2]"], ["env.x=1e-3"], ["env.x=1e+3"], ["env.x=1"])
    names = {of_family("other", words) for words in alike}
    assert len(names) == len(alike) and "-on-other-env.x=1" in names
    assert of_family("other", ["--env.y=2", "env.x=1"]) == of_family("other", ["env.x=1", "env.y=2"])
    assert len(of_family("other", [f"env.some_setting_{n}=true" for n in range(40)])) < 100


def test_a_family_of_other_sizes_is_refused_with_both(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_in(run.path)
    assert program.main(["evaluate", str(run.path), "env=mpe-spread"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.count("obs_dim=") == 2 and files_in(run.path) == before
    assert program.main(["evaluate", str(run.path), "env.episode_steps=5"]) == 2
