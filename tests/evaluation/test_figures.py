"""Are the pictures there, do they show the data, and is a failed one only a warning?"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from PIL import Image
from torch import Tensor

from mg2l_kalei.evaluation.comparison import Comparison, compare
from mg2l_kalei.evaluation.figures import (
    adaptation_figure,
    plane_coordinates,
    save_picture,
    sharing_figure,
    task_space_figure,
    training_figure,
)
from mg2l_kalei.evaluation.plot_style import LABEL_GAP
from mg2l_kalei.evaluation.results import AdaptationResult
from mg2l_kalei.sharing.figures import MemberFigure, PointFigure

MakeResult = Callable[..., AdaptationResult]


@pytest.fixture
def comparison(make_result: MakeResult) -> Comparison:
    references = {"none": [make_result([-80.0, -80.0], seed=1)], "oracle": [make_result([-20.0, -20.0], seed=2)]}
    return compare("ours", [make_result([-60.0, -30.0])], references, np.random.default_rng(0))


def _drawings(comparison: Comparison) -> dict[str, Callable[[], Figure]]:
    result = comparison.lines[0].seeds[0]
    latents, steps = result.latents, np.arange(5.0)
    assert latents is not None
    many = np.concatenate([latents] * 5, axis=1)
    return {
        "adaptation": lambda: adaptation_figure(comparison),
        "task space": lambda: task_space_figure(latents, result.probe, result.tasks),
        "many tasks": lambda: task_space_figure(many, result.probe, [str(i) for i in range(15)]),
        "constant latents": lambda: task_space_figure(0 * latents, result.probe, result.tasks),
        "no latents": lambda: task_space_figure(latents[..., :0], result.probe, result.tasks),
        "masks": lambda: sharing_figure(masks(0.1 * (1 - torch.eye(3)), torch.tensor([0.1, 0.2, 0.3]))),
        "equal masks": lambda: sharing_figure(masks(torch.zeros(12, 12), torch.zeros(12))),
        "training": lambda: training_figure({"many": (1e5 * steps, steps**2), "one": (steps[:1], steps[:1])}, "return"),
    }


def masks(pairs: Tensor, each: Tensor) -> MemberFigure:
    return MemberFigure("masks", "Masks", pairs, "share masked by one of the two", each, "sparsity: share masked")


def test_every_picture_is_written_and_not_blank(comparison: Comparison, tmp_path: Path) -> None:
    for name, draw in _drawings(comparison).items():
        path = tmp_path / f"{name}.png"
        assert save_picture(path, draw), name
        pixels = np.asarray(Image.open(path).convert("L"))
        assert min(pixels.shape) > 300, name
        assert 0.002 < (pixels < 200).mean() < 0.7, f"{name} is blank or black"


def test_a_failed_picture_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def draw() -> Figure:
        raise RuntimeError("no ink")

    with caplog.at_level(logging.WARNING):
        assert not save_picture(tmp_path / "a.png", draw)
        (tmp_path / "file").write_text("")
        assert not save_picture(tmp_path / "file" / "b.png", Figure)
    assert "a.png was not written: RuntimeError: no ink" in caplog.text
    assert "b.png was not written" in caplog.text


FOREIGN_SETTINGS = """
backend: module://foreign
text.usetex: True
figure.facecolor: red
"""
DRAWING = """
import sys
from pathlib import Path
sys.path.insert(0, "")  # as for python -m
from mg2l_kalei.evaluation.figures import save_picture, training_figure
import numpy as np
curve = np.arange(3.0), np.arange(3.0)
assert save_picture(Path(sys.argv[1]), lambda: training_figure({"a": curve}, "return"))
"""


def test_settings_of_the_working_directory_neither_run_code_nor_change_pictures(tmp_path: Path) -> None:
    for name in ("plain", "foreign"):
        (tmp_path / name).mkdir()
    (tmp_path / "foreign" / "matplotlibrc").write_text(FOREIGN_SETTINGS)
    (tmp_path / "foreign" / "foreign.py").write_text("open('ran', 'w')")
    root = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for name in ("plain", "foreign"):
        command = [sys.executable, "-c", DRAWING, str(tmp_path / f"{name}.png")]
        subprocess.run(command, cwd=tmp_path / name, env=root, check=True)
    assert not (tmp_path / "foreign" / "ran").exists()
    assert (tmp_path / "foreign.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_the_curve_shows_the_estimates_and_labels_every_line(comparison: Comparison) -> None:
    figure = adaptation_figure(comparison)
    _, across = figure.axes
    drawn = [line.get_ydata() for line in across.lines if line.get_marker() == "o"]
    for line, values in zip(comparison.lines, drawn, strict=True):
        np.testing.assert_array_equal(values, line.estimate.value)
    assert {text.get_text() for text in across.texts} == {"ours", "none", "oracle"}
    assert "preliminary" in figure.get_suptitle()


def test_labels_of_lines_that_end_together_stay_apart() -> None:
    together = np.array([0.0, 1.0]), np.array([0.0, 5.0])
    figure = training_figure({"a": together, "two words of more than a line": together, "c": together}, "return")
    axes: Axes = figure.axes[0]
    heights = sorted(text.xy[1] for text in axes.texts if isinstance(text, Annotation))
    gaps = np.diff(heights) * axes.get_position().height * figure.get_figheight()
    np.testing.assert_allclose(gaps, 1.5 * LABEL_GAP)  # from the middle of one line to that of two


def test_a_picture_of_members_shows_them_and_says_what_it_shows() -> None:
    pairs, each = torch.tensor([[0.0, 0.25], [0.25, 0.0]]), torch.tensor([0.1, 0.3])
    figure = sharing_figure(masks(pairs, each))
    assert figure.get_suptitle() == "Masks"
    map_, bars, colours = figure.axes
    np.testing.assert_array_equal(map_.images[0].get_array(), pairs)
    np.testing.assert_allclose([bar.get_height() for bar in bars.patches], each)  # type: ignore[attr-defined]
    assert colours.get_ylabel() == "share masked by one of the two" and bars.get_ylabel() == "sparsity: share masked"
    assert {text.get_text() for text in map_.texts} == {"0.000", "0.250"}


def test_a_picture_of_groups_has_a_point_for_each_agent_and_a_colour_for_each_group() -> None:
    points, groups = torch.tensor([[0.0, 0.0, 1.0], [9.0, 0.0, 1.0], [0.0, 1.0, 1.0], [9.0, 1.0, 1.0]]), (0, 1, 0, 1)
    figure = sharing_figure(PointFigure("groups", "Agents", points, groups))
    (axes,) = figure.axes
    assert figure.get_suptitle() == "Agents"
    assert axes.get_legend_handles_labels()[1] == ["group 0: 2", "group 1: 2"]
    drawn = [np.asarray(each.get_offsets()) for each in axes.collections]
    assert [len(each) for each in drawn] == [2, 2]
    across = [abs(drawn[0][i, 0] - drawn[1][i, 0]) for i in range(2)]
    np.testing.assert_allclose(across, 9.0, atol=1e-6)  # along the axis on which they differ most
    colours = [np.asarray(each.get_facecolor())[0] for each in axes.collections]
    assert not np.array_equal(*colours)


def test_the_plane_is_that_of_the_last_moments_largest_variance() -> None:
    noise = np.random.default_rng(0)
    latents = noise.normal(size=(2, 3, 50, 6)) * np.array([1, 1, 30, 1, 10, 1])
    flat = plane_coordinates(latents)
    assert flat.shape == (2, 3, 50, 2)
    spread = flat[-1].reshape(-1, 2).std(axis=0)
    np.testing.assert_allclose(spread, [30, 10], rtol=0.15)
    np.testing.assert_allclose(flat[-1].reshape(-1, 2).mean(axis=0), 0, atol=1e-9)


def test_long_labels_leave_most_of_the_picture_to_the_curves() -> None:
    curve = (np.arange(3.0), np.arange(3.0))
    label = f"mappo init_from={'results/' * 12}default-s0-0123abcd learner.n_minibatches=4"
    figure = training_figure({label: curve}, "return")
    figure.canvas.draw()
    (axes,) = figure.axes
    assert axes.get_position().width > 0.5
    (text,) = (str(child.get_text()) for child in axes.texts)
    first, word, last = text.split("\n")
    assert (first, last) == ("mappo", "learner.n_minibatches=4")
    assert word.startswith("init_from=resu") and word.endswith("-0123abcd")
