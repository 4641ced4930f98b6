"""Does a run on a PettingZoo environment train, fail and load as any other, and import only what its user named?"""

from __future__ import annotations

from pathlib import Path

import pytest

import mg2l_kalei.__main__ as program
import train
from mg2l_kalei import load_run
from mg2l_kalei.config import ConfigError
from mg2l_kalei.disk.run_folder import RunFolder
from tests.small_runs import copy_of, files_in, folder_of, tiny

ENVS = "tests.envs.pettingzoo_envs"
WALK = f"{ENVS}:walk"


def words(results: Path, factory: str = WALK, **settings: object) -> list[str]:
    return tiny(results, "pettingzoo", "mappo", env__factory=factory, **settings)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run on two tasks, in which an agent leaves before the other."""
    given = words(tmp_path_factory.mktemp("results"), env__train="[goal=-1 leaves=[2],goal=1 leaves=[2]]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)
        assert train.main(given) == 0
        assert train.main(given) == 0  # the same command knows its run again
    return folder_of(given)


def refused(argv: list[str], capsys: pytest.CaptureFixture[str], entry: str = "evaluate") -> str:
    """The one line that bad input is answered with."""
    capsys.readouterr()
    code = train.main(argv) if entry == "train" else program.main([entry, *argv])
    output = capsys.readouterr()
    assert code == 2 and output.err.count("\n") == 1
    return output.err.strip()


@pytest.fixture
def foreign(run: RunFolder, tmp_path: Path) -> RunFolder:
    """A run whose folder names code that leaves a mark where it is imported."""
    copy = copy_of(run, tmp_path / "run")
    mark = tmp_path / "mark"
    (tmp_path / "stranger.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    copy.config.write_text(copy.config.read_text().replace(WALK, "stranger:make"))
    return copy


def test_code_that_a_folder_names_is_not_imported_unless_the_user_names_it_too(
    foreign: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(foreign.path.parent)
    path, mark = str(foreign.path), foreign.path.parent / "mark"
    expected = f"{path} names code to run, stranger:make; if you trust it, add factory=stranger:make"
    assert refused([path], capsys) == refused([path], capsys, "render") == expected
    with pytest.raises(ConfigError, match="if you trust it"):
        load_run(path)
    other = f"{path} names code to run, stranger:make, which is not factory={WALK}"
    assert refused([path, f"factory={WALK}"], capsys) == other
    start = [*words(foreign.path.parent / "new"), f"init_from={path}"]
    assert refused(start, capsys, "train") == f"init_from={path}: {other}"
    assert not mark.exists()
    refused([path, "factory=stranger:make"], capsys)
    assert mark.exists()


def test_a_run_is_evaluated_and_loaded_where_its_factory_is_named(run: RunFolder) -> None:
    assert program.main(["evaluate", str(run.path), f"factory={WALK}", "trials=2"]) == 0
    assert load_run(run.path, factory=WALK).family.made_by["factory"] == WALK


def test_a_run_that_names_no_code_needs_no_word_and_takes_one(run: RunFolder, tmp_path: Path) -> None:
    """As where a run of ours is the start of one on a PettingZoo environment (``init_from``)."""
    given = tiny(tmp_path, algo="mappo", n_iters=1)
    assert train.main(given) == 0
    path = folder_of(given).path
    assert load_run(path).family.fingerprint() == load_run(path, factory=WALK).family.fingerprint()


def test_what_cannot_be_drawn_is_said_to_be_so(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused([str(run.path), f"factory={WALK}"], capsys, "render")
    assert line == "pettingzoo cannot be drawn: its environments have no scenes"


def test_other_keywords_are_other_tasks(run: RunFolder, tmp_path: Path) -> None:
    changed = copy_of(run, tmp_path / "run")
    changed.config.write_text(changed.config.read_text().replace("goal=1 leaves", "goal=2 leaves"))
    with pytest.raises(ValueError, match=r"trained on other tasks .* differs in fingerprint, tasks"):
        load_run(changed.path, factory=WALK)


def test_an_environment_that_fails_ends_the_run_with_one_line_and_leaves_its_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words(tmp_path, f"{ENVS}:fails", env__train="[step=3]")
    assert train.main(given) == 1
    assert capsys.readouterr().err.startswith("error: pettingzoo, task 'step=3', seed ")
    assert (folder_of(given).checkpoints / "latest").is_file()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({}, "env.factory=module:function is needed"),
        ({"env__factory": "walk"}, "env: factory=walk: expected module:function"),
        (
            {"env__factory": "mpe2.simple_tug_v3:parallel_env"},
            "no module mpe2.simple_tug_v3 (did you mean simple_tag_v3?)",
        ),
        ({"env__factory": f"{ENVS}:wolk"}, "has no function wolk (did you mean walk?)"),
        ({"env__factory": f"{ENVS}:Walk"}, "missing a required argument: 'goal'; env.train lists keyword sets"),
        ({"env__factory": f"{WALK}", "env__train": "[height=1]"}, "unexpected keyword argument 'height'"),
        (
            {"env__factory": f"{WALK}", "env__train": "[goal]"},
            "expected keywords as in 'N=2 local_ratio=0.3', not 'goal'",
        ),
        ({"env__factory": f"{WALK}", "env__train": "[goal=[1]"}, "'goal=[1' is no number, text, true"),
        (
            {"env__factory": f"{WALK}", "env__test": "[goal=1,goal=1.0]"},
            "test: the keywords 'goal=1.0' are given twice",
        ),
        ({"env__factory": f"{WALK}", "env__train": "[n_agents=2,n_agents=3]"}, "all tasks need the same agents"),
        ({"env__factory": f"{ENVS}:endless", "env__episode_steps": 0}, "states no max_cycles: env.episode_steps=..."),
        ({"env__factory": "mpe2.simple_tag_v3:env"}, "agents take turns (AEC): name its parallel_env"),
        ({"env__factory": "json:dumps", "env__train": "[obj=1]"}, "is str, expected a pettingzoo.ParallelEnv"),
    ],
)
def test_what_cannot_be_played_is_one_clear_line_and_nothing_is_written(
    settings: dict[str, object], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = tiny(tmp_path, "pettingzoo", "mappo", **settings)
    assert line in refused(given, capsys, "train")
    assert files_in(tmp_path) == {}
