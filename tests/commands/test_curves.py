"""Do learning curves of runs come out of what they logged, and are bad requests answered in one line?"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mg2l_kalei import __main__ as program
from mg2l_kalei.commands import curves
from mg2l_kalei.config import differences, load, run_dir, to_yaml
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.evaluation.figures import pairs_figure
from mg2l_kalei.evaluation.statistics import Array
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA
from tests.small_runs import files_in, tiny
from tests.training.trainers import load_words

PUBLISHED = "sharing=kaleidoscope_published"  # whose usual settings are not those of its class
STEPS = 100  # environment steps between two lines


def logged(
    results: Path, values: Mapping[int, float | None], env: str = "toy-corners", **settings: object
) -> RunFolder:
    """The folder of a run that logged these values at iterations 1, 2, ... and nothing else."""
    config = load(tiny(results, env, "mappo", **settings), SCHEMA, CONFIG_DIR).config
    folder = RunFolder(run_dir(config))
    folder.path.mkdir(parents=True)
    folder.config.write_text(to_yaml(config))
    rows = [
        {"iteration": i, "env_steps": STEPS * i, "train/episode_return": value, "train/entropy": 1.0}
        for i, value in values.items()
    ]
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_the_table_holds_means_of_each_tenth_and_the_picture_is_beside_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = logged(tmp_path, {i: float(i) for i in range(1, 21)})
    short = logged(tmp_path, {1: 5.0, 2: None}, seed=1)
    assert program.main(["curves", str(long.path), str(short.path)]) == 0
    heading, names, *rows, picture = capsys.readouterr().out.splitlines()
    assert heading.startswith("train/episode_return") and names.split("  ")[-2:] == ["mappo s0", "mappo s1"]
    assert [row.split() for row in rows] == [
        ["to", f"{2 * STEPS * k:,}", f"{2 * k - 0.5:g}", *(["5"] if k == 1 else [])] for k in range(1, 11)
    ]
    assert picture == f"picture: {long.figures / 'curves.png'}"
    with Image.open(long.figures / "curves.png") as image:
        assert image.width > image.height
    before = (long.figures / "curves.png").read_bytes()
    assert program.main(["curves", str(long.path), "metric=train/entropy"]) == 0
    assert (long.figures / "curves-train_entropy.png").is_file()
    assert (long.figures / "curves.png").read_bytes() == before


def test_what_is_logged_of_pairs_is_drawn_of_all_pairs_at_the_first_the_middle_and_the_last_moment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = logged(tmp_path, dict.fromkeys(range(1, 10), 1.0))
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    for row in rows:
        value = row["iteration"] / 10
        row |= {"sharing/pairs": value, "sharing/pairs_0_1": value, "sharing/pairs_0_4": None, "sharing/pairs_1_4": 0.0}
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    drawn: dict[int, Array] = {}

    def draw(moments: Mapping[int, Array], title: str) -> Figure:
        drawn.update(moments)
        return pairs_figure(moments, title)

    monkeypatch.setattr(curves, "pairs_figure", draw)
    assert program.main(["curves", str(run.path), "metric=sharing/pairs"]) == 0
    *_, curve, pairs = capsys.readouterr().out.splitlines()
    assert curve.endswith("curves-sharing_pairs.png") and pairs.endswith("curves-sharing_pairs-pairs.png")
    assert (run.figures / "curves-sharing_pairs-pairs.png").is_file()
    at = {1: 0.1, 5: 0.5, 9: 0.9}
    assert list(drawn) == [STEPS * i for i in at]
    for i, value in at.items():
        expected = [[0, value, np.nan], [value, 0, 0], [np.nan, 0, 0]]
        np.testing.assert_array_equal(drawn[STEPS * i], expected)


def test_runs_of_one_recipe_and_seed_are_told_apart_by_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [logged(tmp_path, {1: 1.0}), logged(tmp_path, {1: 2.0}, learner__gamma=0.5)]
    runs += [logged(tmp_path / "again", {1: 3.0}), logged(tmp_path, {1: 4.0}, env__n_agents=3, seed=1)]
    words = [str(run.path) for run in (*runs, runs[0])] + [f"{runs[0].path}/.", f"out={tmp_path / 'both.png'}"]
    assert program.main(["curves", *words]) == 0
    names = capsys.readouterr().out.splitlines()[1]
    assert [name.strip() for name in names.split("  ") if name][1:] == [
        "mappo s0 #1",
        "mappo learner.gamma=0.5 s0",
        "mappo s0 #3",
        "mappo env.n_agents=3 s1",
    ]
    assert (tmp_path / "both.png").is_file() and not runs[0].figures.exists()


BAD_REQUESTS: dict[str, tuple[Callable[[Path, Path], list[str]], str]] = {
    "no run": (lambda a, b: [], "curves: expected the folders of runs"),
    "misspelt run": (lambda a, b: [f"{a}x"], r".*x holds no run, .*did you mean .*\?"),
    "another family": (lambda a, b: [str(a), str(b)], ".* was trained on toy-turns, .* on toy-corners: .*compared"),
    "misspelt metric": (lambda a, b: [str(a), "metric=train/entrop"], r".*none of it \(did you mean train/entropy\?\)"),
    "nothing logged": (lambda a, b: [str(b)], ".* has logged none of it$"),
    "no picture": (lambda a, b: [str(a), "out=curves.gif"], r".*out=curves.gif: .*\.png"),
}


@pytest.mark.parametrize("wrong", BAD_REQUESTS)
def test_a_bad_request_is_refused_in_one_line_and_nothing_is_written(
    wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corners, turns = logged(tmp_path, {1: 1.0}), logged(tmp_path, {1: None}, "toy-turns")
    before = files_in(tmp_path)
    request, message = BAD_REQUESTS[wrong]
    assert program.main(["curves", *request(corners.path, turns.path)]) == 2
    error = capsys.readouterr().err
    assert re.match(message, error) and error.count("\n") == 1, error
    assert files_in(tmp_path) == before


def test_a_line_of_another_scheme_is_named_by_what_is_not_usual_for_it() -> None:
    first, *others = (
        load_words("--algo=mappo", "--env=toy-turns", *words)
        for words in ([], [PUBLISHED], [PUBLISHED, "sharing.threshold_lr=0.1"])
    )
    assert [differences(first, other, SCHEMA) for other in others] == [
        ["sharing.kind=kaleidoscope_published"],
        ["sharing.kind=kaleidoscope_published", "sharing.threshold_lr=0.1"],
    ]
