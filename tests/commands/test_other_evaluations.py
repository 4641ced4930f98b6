"""Do other evaluations leave the run's own alone, and is a run played on another family where it fits?"""

from __future__ import annotations

from pathlib import Path

import pytest

import train
from mg2l_kalei import __main__ as program
from mg2l_kalei.commands.evaluate import _of_family
from mg2l_kalei.disk.run_folder import RunFolder
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


def test_names_of_files_differ_where_settings_do_and_are_not_too_long() -> None:
    alike = (["env.x=[1,2]"], ["env.x=[1,-2]"], ["env.x=1e-3"], ["env.x=1e+3"], ["env.x=1"])
    names = {_of_family("other", words) for words in alike}
    assert len(names) == len(alike) and "-on-other-env.x=1" in names
    assert _of_family("other", ["--env.y=2", "env.x=1"]) == _of_family("other", ["env.x=1", "env.y=2"])
    assert len(_of_family("other", [f"env.some_setting_{n}=true" for n in range(40)])) < 100


def test_a_family_of_other_sizes_is_refused_with_both(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_in(run.path)
    assert program.main(["evaluate", str(run.path), "env=mpe-spread"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.count("obs_dim=") == 2 and files_in(run.path) == before
    assert program.main(["evaluate", str(run.path), "env.episode_steps=5"]) == 2
