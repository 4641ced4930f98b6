"""Do the two programs say what they can do, refuse bad input by name with exit code 2, and do what they are told?"""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import train
from envs import ENVS
from envs.toy import Corners, CornersConfig
from mg2l_kalei import __main__ as program
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.training.meta_trainer import MetaTrainer
from tests.small_runs import copy_of, files_in, folder_of, tiny

ROOT = Path(train.__file__).parent
REFUSED = 2


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunFolder]:
    """Two seeds, the first with its references."""
    results = tmp_path_factory.mktemp("results")
    commands = [tiny(results, references="true", n_iters=2), tiny(results, seed=1, n_iters=2)]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)
        assert [train.main(words) for words in commands] == [0, 0]
    return [folder_of(words) for words in commands]


def outcome(
    main: Callable[[list[str]], int], words: Sequence[object], capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# --- train.py ---------------------------------------------------------------------------------------------------------

BAD_SETTINGS = {
    "no such setting": (["learner.gama=0.9"], "command line: learner.gama=0.9: .*did you mean learner.gamma"),
    "wrong type": (["n_rows=many"], "command line: n_rows=many: expected a whole number"),
    "out of range": (["gamma=2"], "command line: learner.gamma=2.0: expected .*<= 1"),
    "no such family": (["--env=toy-corner"], r"command line: env=toy-corner: .*did you mean toy-corners\?"),
    "settings that exclude each other": (["context.batch=5"], "context.batch=5 is odd"),
    "family of impossible sizes": (["--env=toy-turns", "n_actions=2"], r"env: n_actions=2 is not more than n_agents=2"),
    "network of impossible sizes": (["n_heads=3"], r"encoder: n_heads=3 does not divide the last of hidden, \d+"),
    "no value": (["seed="], "command line: seed=: no value"),
    "no such run to start from": (["init_from=nowhere"], "init_from=nowhere: nowhere holds no run"),
}


@pytest.mark.parametrize("wrong", BAD_SETTINGS)
def test_training_refuses_bad_input_in_one_line_and_makes_no_folder(
    tmp_path: Path, wrong: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(MetaTrainer, "iterate")  # whatever slips through fails, and trains nothing
    words, message = BAD_SETTINGS[wrong]
    code, _, error = outcome(train.main, [f"results_dir={tmp_path / 'results'}", *words], capsys)
    assert code == REFUSED
    assert re.match(message, error), error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_all_problems_are_shown_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = outcome(train.main, [f"results_dir={tmp_path}/x", "n_rows=0", "sed=1", "gamma=a"], capsys)
    assert code == REFUSED
    assert [line.split(":")[1].strip() for line in error.splitlines()] == ["n_rows=0", "sed=1", "learner.gamma=a"]


def test_a_results_folder_that_cannot_be_made_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    code, _, error = outcome(train.main, tiny(tmp_path / "file"), capsys)
    assert code == 1
    assert error.startswith("error: ") and str(tmp_path / "file") in error and error.count("\n") == 1


def test_help_and_printed_config_train_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = tiny(tmp_path / "results", seed=7)
    code, text, _ = outcome(train.main, [*words, "--print-config"], capsys)
    assert code == 0
    assert re.search(r"^seed=7 +# command line$", text, re.M)
    assert re.search(r"^encoder.kind=mg2l +# config/algo/mg2l_kalei.yaml$", text, re.M)
    code, text, _ = outcome(train.main, [*words, "--help"], capsys)
    assert code == 0 and "--print-config" in text and "learner.gamma=0.99" in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [["train.py"], ["-m", "mg2l_kalei"]])
def test_the_programs_start_and_refuse_as_processes_too(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *command, "evaluate" if "-m" in command else f"results_dir={tmp_path / 'x'}", "trails=3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == REFUSED
    assert "trails=3" in done.stderr and done.stdout == ""
    assert not list(tmp_path.iterdir())


# --- python -m mg2l_kalei ---------------------------------------------------------------------------------------------


def test_evaluation_prints_the_table_beside_the_usual_references_and_keeps_every_episode(
    runs: list[RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs[0]
    code, text, _ = outcome(program.main, ["evaluate", run.path, "episodes=3", "trials=4", "actions=sampled"], capsys)
    assert code == 0
    assert "toy-corners, seen tasks: 4 tasks x 4 trials, 3 episodes of 4 steps, actions sampled" in text
    for line in ("none", "oracle"):
        assert re.search(rf"^reference line {line}: {run.path.parents[1]}/", text, re.M)
    labels = {row.partition("  ")[0] for row in text.splitlines()}
    assert {"mg2l_kalei", "none", "oracle", "score of mg2l_kalei"} <= labels
    written = json.loads((run.evaluation / "train-32-4x3-sampled.json").read_text())
    assert np.shape(written["returns"]) == (4, 4, 3)


def test_evaluating_twice_gives_the_same_and_other_trials_give_other_returns(
    runs: list[RunFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(runs[0], tmp_path / "run")
    results = []
    for n_trials in (3, 3, 2):
        assert program.main(["evaluate", str(run.path), f"trials={n_trials}"]) == 0
        results.append((run.evaluation / f"train-32-{n_trials}x2.json").read_text())
    assert results[0] == results[1]
    first, _, other = (np.array(json.loads(result)["returns"]) for result in results)
    assert first.shape == (4, 3, 2) and len(np.unique(first)) == first.size
    assert not np.isin(other, first).all()


def test_several_runs_are_seeds_of_one_method_and_references_can_be_named(
    runs: list[RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    none = next(runs[0].path.parents[1].glob("mappo/*"))
    words = ["evaluate", *(run.path for run in runs), f"none={none}", "split=train"]
    code, text, _ = outcome(program.main, words, capsys)
    assert code == 0
    rows = {row.partition("  ")[0]: row.split() for row in text.splitlines() if row.endswith(" 32")}
    assert {label: row[-2] for label, row in rows.items()} == {"mg2l_kalei": "2", "none": "1"}
    assert all(list(run.evaluation.glob("train-32-*.json")) for run in (*runs, RunFolder(none)))


def test_a_run_is_no_reference_line_of_its_own(runs: list[RunFolder], capsys: pytest.CaptureFixture[str]) -> None:
    oracle = next(runs[0].path.parents[1].glob("oracle/*"))
    code, text, _ = outcome(program.main, ["evaluate", oracle], capsys)
    assert code == 0 and "reference line oracle" not in text and "score of" not in text


def test_a_variant_of_the_same_recipe_is_called_by_what_differs(
    runs: list[RunFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variant = tiny(tmp_path, n_iters=2, encoder__latent_dim=3)
    assert train.main(variant) == 0
    code, text, _ = outcome(program.main, ["evaluate", runs[1].path, f"beside={folder_of(variant).path}"], capsys)
    assert code == 0
    assert re.search(r"^mg2l_kalei encoder\.latent_dim=3  ", text, re.M)


def test_further_recipes_stand_in_the_table_by_their_names(
    runs: list[RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    oracle = next(runs[0].path.parents[1].glob("oracle/*"))
    code, text, _ = outcome(program.main, ["evaluate", runs[1].path, f"beside={oracle}"], capsys)
    assert code == 0
    assert {row.split()[0] for row in text.splitlines() if row.endswith(" 32")} == {"mg2l_kalei", "oracle"}


BAD_REQUESTS: dict[str, tuple[Callable[[Path, Path, Path], list[object]], str]] = {
    "no command": (lambda a, b, none: ["evalute", a], r"evalute: expected .*did you mean evaluate\?"),
    "no run": (lambda a, b, none: ["evaluate"], "evaluate: expected the folder of a run"),
    "misspelt run": (lambda a, b, none: ["evaluate", f"{a}x"], r".*x holds no run, .*did you mean .*\?"),
    "no such option": (lambda a, b, none: ["evaluate", a, "trails=3"], r".*trails=3: .*did you mean trials\?"),
    "wrong type": (lambda a, b, none: ["evaluate", a, "trials=few"], ".*trials=few: expected a whole number"),
    "no such split": (lambda a, b, none: ["evaluate", a, "split=trian"], r".*split=trian: .*did you mean train\?"),
    "other methods": (lambda a, b, none: ["evaluate", a, none], ".* is no other seed of .*encoder.kind=none"),
    "one seed twice": (lambda a, b, none: ["evaluate", a, b, a], ".*seed 0 is given twice"),
    "no reference run": (lambda a, b, none: ["evaluate", a, f"none={none}x"], ".*x holds no run"),
    "beside itself": (lambda a, b, none: ["evaluate", a, f"beside={b}"], ".*: a run like the one evaluated: .*seed"),
    "no such task": (lambda a, b, none: ["render", a, "task=corner+1"], r".*task=corner\+1: .*did you mean corner\+1"),
    "task beyond": (lambda a, b, none: ["render", a, "task=4"], ".*task=4: toy-corners has tasks 0 to 3"),
    "no film": (lambda a, b, none: ["render", a, "out=film.png"], r".*out=film.png: .*\.gif"),
    "two films": (lambda a, b, none: ["render", a, b], "render: expected the folder of one run"),
    "no family": (lambda a, b, none: ["tasks", "show", "toy"], r"tasks show toy: .*did you mean toy-\w+"),
    "no action": (lambda a, b, none: ["tasks", "chek", "toy-turns"], r"tasks chek: .*did you mean check\?"),
    "no setting": (lambda a, b, none: ["tasks", "show", "toy-turns", "n_agent=2"], r".*did you mean \S*n_agents\?"),
}


@pytest.mark.parametrize("wrong", BAD_REQUESTS)
def test_a_bad_request_is_refused_in_one_line_and_nothing_is_written(
    runs: list[RunFolder],
    wrong: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    results = runs[0].path.parents[2]
    none = next(results.glob("toy-corners/mappo/*"))
    before = files_in(results)
    request, message = BAD_REQUESTS[wrong]
    code, _, error = outcome(program.main, request(runs[0].path, runs[1].path, none), capsys)
    assert code == REFUSED
    assert re.match(message, error), error
    assert error.count("\n") == 1
    assert files_in(results) == before and not list(tmp_path.iterdir())


def test_a_run_without_a_good_checkpoint_is_a_failure_and_no_bad_request(
    runs: list[RunFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(runs[0], tmp_path / "run")
    for manifest in run.checkpoints.glob("*/manifest.json"):
        manifest.unlink()
    code, _, error = outcome(program.main, ["evaluate", run.path], capsys)
    assert code == 1
    assert re.match(f"error: {run.checkpoints}: none of 3 checkpoints can be read", error.splitlines()[-1])


@pytest.mark.parametrize("algo", ["mg2l_kalei", "mappo"])
def test_a_film_has_a_frame_per_step_and_its_path_is_printed(
    runs: list[RunFolder], algo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(RunFolder(next(runs[0].path.parents[1].glob(f"{algo}/*"))), tmp_path / "run")
    code, text, _ = outcome(program.main, ["render", run.path, "task=corner-1+1", "episodes=2"], capsys)
    path = run.figures / "trial-1-0.gif"
    assert (code, text) == (0, f"{path}\n")
    with Image.open(path) as film:
        assert getattr(film, "n_frames", 1) == 2 * 4
        has_belief_panel = film.width > film.height
    assert has_belief_panel == (algo == "mg2l_kalei")
    other = tmp_path / "new" / "other.gif"
    assert program.main(["render", str(run.path), "task=1", "steps=3", f"out={other}"]) == 0
    with Image.open(other) as film:
        assert getattr(film, "n_frames", 1) == 3


def test_families_are_listed_shown_and_hashed_as_training_draws_them(
    runs: list[RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    _, listed, _ = outcome(program.main, ["tasks", "list"], capsys)
    assert [line.split()[0] for line in listed.splitlines()] == list(ENVS)
    _, shown, _ = outcome(program.main, ["tasks", "show", "toy-corners", "n_agents=3"], capsys)
    assert "3 agents" in shown and re.search(r"2 +train +corner\+1-1 +goal=\[1\.0,-1\.0\]", shown)
    _, digest, _ = outcome(program.main, ["tasks", "hash", "toy-corners"], capsys)
    assert digest.strip() == json.loads(runs[0].tasks.read_text())["fingerprint"]
    assert digest.strip() in shown


@pytest.fixture
def broken_family(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    class Broken(Corners):
        def __init__(self, name: str, config: CornersConfig, generator: np.random.Generator) -> None:
            super().__init__(name, config, generator)
            self.tasks = (*self.tasks, self.tasks[0])

    monkeypatch.setitem(ENVS, "toy-corners", (Broken, CornersConfig()))
    yield


def test_an_honest_family_passes_its_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(program.main, ["tasks", "check", "toy-turns"], capsys)[0] == 0


@pytest.mark.usefixtures("broken_family")
def test_a_broken_family_fails_its_check_with_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = outcome(program.main, ["tasks", "check", "toy-corners"], capsys)
    assert code == 1 and "two tasks have the same name" in text
