"""The look of all figures: colours that the colour-blind tell apart, open axes, lines labelled at their ends."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mg2l_kalei.evaluation.statistics import Array

if TYPE_CHECKING:  # imported where they are used: they take a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette; in scatter plots each colour also has a marker of its own.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555", "#8C7A00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
REFERENCES = {"oracle": ("#000000", "--"), "none": ("#7F7F7F", "-.")}
INK = "#333333"
LABEL_LENGTH = 28  # characters in a line of a label at most; of longer words the middle is left out
LABEL_GAP = 0.18  # least distance between two lines of labels beside the axes [inches]


def new_figure(width: float, height: float, heading: str) -> Figure:
    """A figure of ``width`` x ``height`` inches with a left-aligned heading."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained", wspace=0.05)
    if heading:
        figure.suptitle(heading, x=0.01, ha="left", fontsize=10, color=INK)
    return figure


def open_axes(axes: Axes, x_label: str, y_label: str) -> None:
    """Label the axes and leave only what is needed to read them."""
    axes.set_xlabel(x_label, color=INK)
    axes.set_ylabel(y_label, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9)


def line_styles(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Colour and dash of each line; reference lines always look the same."""
    coloured = [label for label in labels if label not in REFERENCES]
    styles = {label: (PALETTE[i % len(PALETTE)], "-") for i, label in enumerate(coloured)} | REFERENCES
    return [styles[label] for label in labels]


def label_ends(axes: Axes, ends: Mapping[str, float], colours: Sequence[str]) -> None:
    """Write each line's label beside the axes, as near to its end as reading allows: ``ends`` maps label to y."""
    from scipy.optimize import isotonic_regression

    low, high = axes.get_ylim()
    wanted = np.array([(y - low) / (high - low) for y in ends.values()])
    labels = [wrapped(label) for label in ends]
    room = np.array([1 + label.count("\n") for label in labels]) * LABEL_GAP / _height(axes)
    order = np.argsort(wanted, kind="stable")
    spacing = np.cumsum(room[order]) - room[order] / 2  # to the middle of each label
    heights = isotonic_regression(wanted[order] - spacing).x + spacing  # least moves that keep order and spacing
    for place, height in zip(order, heights, strict=True):
        axes.annotate(
            labels[place], (1.01, height), xycoords="axes fraction", va="center", fontsize=9, color=colours[place]
        )


def _height(axes: Axes) -> float:
    """In inches, before the figure is laid out."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return float(axes.get_position().height * figure.get_figheight())


def wrapped(label: str) -> str:
    """The label in lines of at most ``LABEL_LENGTH``."""
    lines = textwrap.wrap(label, LABEL_LENGTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(map(_shortened, lines))


def _shortened(word: str) -> str:
    """Beginning and end of a long word: of a run's name, the recipe and the seed stand there."""
    if len(word) <= LABEL_LENGTH:
        return word
    head, tail = LABEL_LENGTH // 2, LABEL_LENGTH - LABEL_LENGTH // 2 - 1
    return f"{word[:head]}…{word[-tail:]}"


def task_colours(n_tasks: int) -> list[str]:
    """One colour per task: from the palette while it lasts, else along one scale in the order of the tasks."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    if n_tasks <= len(PALETTE):
        return list(PALETTE)
    scale = colormaps["viridis"]
    return [to_hex(scale(i / (n_tasks - 1))) for i in range(n_tasks)]


def scatter_tasks(axes: Axes, points: Array, tasks: Sequence[str]) -> None:
    """One dot per trial: points (n_tasks, n_trials, 2). Axes without numbers: principal components have no unit."""
    for i, (colour, name) in enumerate(zip(task_colours(len(tasks)), tasks, strict=False)):
        x, y = points[i].T
        axes.scatter(x, y, s=11, c=colour, marker=MARKERS[i % len(MARKERS)], alpha=0.65, linewidths=0, label=name)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#CCCCCC")
