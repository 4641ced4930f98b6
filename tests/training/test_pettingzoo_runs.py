"""Does a run on a PettingZoo environment train, fail and load as any other, and import only what its user named?"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import mg2l_kalei.__main__ as program
import train
from envs.core import Observation, StepResult
from mg2l_kalei import load_run
from mg2l_kalei.config import ConfigError
from mg2l_kalei.disk.run_folder import RunFolder
from tests.envs import pettingzoo_envs
from tests.small_runs import copy_of, files_in, folder_of, remains, tiny

ENVS = "tests.envs.pettingzoo_envs"
FAULTS = "tests.envs.pettingzoo_faults"
WALK = f"{ENVS}:walk"
COMPASS = f"{ENVS}:compass"


def words(results: Path, factory: str = WALK, **settings: object) -> list[str]:
    return tiny(results, "pettingzoo", "mappo", env__factory=factory, **settings)


@pytest.fixture(scope="module", autouse=True)
def no_pictures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run on two tasks, in which an agent leaves before the other."""
    given = words(tmp_path_factory.mktemp("results"), env__train="[goal=-1 leaves=[2],goal=1 leaves=[2]]")
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
    code = "factory=stranger:make train=[goal=-1 leaves=[2],goal=1 leaves=[2]]"
    expected = f"{path} names code to run, {code}; if you trust it, add factory=stranger:make"
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


def test_a_run_with_workers_is_loaded_without_them_unless_they_are_asked_for(run: RunFolder, tmp_path: Path) -> None:
    """So that a script needs no main guard."""
    copy = copy_of(run, tmp_path / "run")
    copy.config.write_text(copy.config.read_text().replace("n_workers: 0", "n_workers: 1"))
    task = torch.zeros(2, dtype=torch.int64)
    alone = load_run(copy.path, factory=WALK)
    alone.play(task)[0].reset(task)
    assert multiprocessing.active_children() == [] and alone.config.env.n_workers == 0
    assert load_run(copy.path, factory=WALK, n_workers=None).config.env.n_workers == 1


# --- agents have names ------------------------------------------------------------------------------------------------


def turned(patch: pytest.MonkeyPatch) -> None:
    """The environment lists its agents in another order from now on, as one does that takes them from a set."""
    patch.setattr(pettingzoo_envs, "ORDER", pettingzoo_envs.ORDER[::-1])


def played(path: Path) -> list[float]:
    """What a run's team is paid in an episode, agent by agent, and their sizes."""
    run, task = load_run(path, factory=COMPASS), torch.zeros(3, dtype=torch.int64)
    env, team = run.play(task)
    seen: Observation | StepResult = env.reset(task)
    rewards = []
    for _ in range(run.family.spec.episode_steps):
        seen = env.step(team.act(seen.obs, seen.legal).action)
        rewards.append(seen.reward)
    return [*torch.cat(rewards).flatten().tolist(), *run.family.spec.obs_sizes]


@pytest.fixture(scope="module")
def compass(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of two iterations with agents that differ in their sizes and in what they are paid for."""
    given = words(tmp_path_factory.mktemp("results"), COMPASS, sharing__kind="independent", n_iters=2)
    assert train.main(given) == 0
    return folder_of(given)


def test_agents_are_matched_by_name_when_a_run_is_loaded(compass: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    before = played(compass.path)
    turned(monkeypatch)
    assert played(compass.path) == before


def test_agents_are_matched_by_name_when_a_run_goes_on(
    compass: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = []
    for place in ("as it was", "turned"):
        given = words(tmp_path / place, COMPASS, sharing__kind="independent", n_iters=3)
        copy_of(compass, folder_of(given).path)
        assert train.main(given) == 0
        ends.append(remains(folder_of(given)))
        turned(monkeypatch)
    assert ends[0].step == "step-00000003" and ends[0].tensors == ends[1].tensors


def test_agents_are_matched_by_name_when_a_run_starts_from_another(
    compass: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned(monkeypatch)
    given = words(tmp_path, COMPASS, sharing__kind="independent", n_iters=1, init_from=compass.path)
    assert train.main(given) == 0
    assert load_run(folder_of(given).path, factory=COMPASS).family.agents == pettingzoo_envs.ORDER[::-1]


def test_a_run_with_other_agents_is_refused_and_one_that_names_none_is_loaded(
    compass: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = copy_of(compass, tmp_path / "run")
    stored = json.loads(copy.tasks.read_text())
    copy.tasks.write_text(json.dumps({**stored, "agents": ["north", "east", "west"]}))
    expected = (
        f"{copy.path} was trained with other agents: [north,east,west], pettingzoo now has [north,east,southeast]"
    )
    assert refused([str(copy.path), f"factory={COMPASS}"], capsys) == expected
    del stored["agents"]
    copy.tasks.write_text(json.dumps(stored))
    assert played(copy.path) == played(compass.path)


def test_what_cannot_be_drawn_is_said_to_be_so(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused([str(run.path), f"factory={WALK}"], capsys, "render")
    assert line == "pettingzoo cannot be drawn: its environments have no scenes"


def test_other_keywords_are_other_tasks(run: RunFolder, tmp_path: Path) -> None:
    changed = copy_of(run, tmp_path / "run")
    changed.config.write_text(changed.config.read_text().replace("goal=1 leaves", "goal=2 leaves"))
    with pytest.raises(ValueError, match=r"trained on other tasks .* differs in fingerprint, tasks"):
        load_run(changed.path, factory=WALK)


@pytest.mark.parametrize("how", ["raise", "sys.exit", "interrupt"])
def test_an_environment_that_fails_ends_the_run_with_one_line_and_leaves_its_checkpoint(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words(tmp_path, f"{FAULTS}:fails", env__episode_steps=6, env__train=f"[how={how}]")
    assert train.main(given) == 1
    assert capsys.readouterr().err.startswith(f"error: pettingzoo, task 'how={how}', seed ")
    assert (folder_of(given).checkpoints / "latest").is_file()


@pytest.mark.parametrize(
    ("keywords", "code", "line"),
    [
        ("step=1", 2, f"{FAULTS}:fails, task 'how=short state step=1': state() gave 1 number, 2 at the start"),
        ("step=6", 1, "error: pettingzoo, task 'how=short state step=6', seed "),
    ],
)
def test_a_check_of_the_family_says_what_is_returned_wrongly(
    keywords: str, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"env.factory={FAULTS}:fails", f"env.train=[how=short state {keywords}]"]
    assert program.main(["tasks", "check", "pettingzoo", *settings]) == code
    assert capsys.readouterr().err.startswith(line)


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
