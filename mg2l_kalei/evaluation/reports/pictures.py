"""Figures of a report: returns over episodes, profiles, improvement, sample efficiency, what adapting costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from mg2l_kalei.evaluation.plot_style import INK, LABEL_GAP, label_ends, line_styles, new_figure, open_axes, wrapped
from mg2l_kalei.evaluation.reports.estimates import Entry, Section
from mg2l_kalei.evaluation.statistics import Array

SIZE = (5.2, 3.3)  # inches of a figure, of more height where labels need it
TICKS = 5  # intervals of an axis at most: each number takes as long to draw as a curve
ROOM = 0.9  # inches of the height that are no labels'
DODGE = 0.03  # episodes between the points of two methods, so that their intervals do not hide each other
LINES_SHOWN = 12  # in a figure; the tables have them all


class Canvas(NamedTuple):
    """An empty figure of a section, and what is to be shown in it."""

    figure: Figure
    axes: Axes
    entries: Sequence[Entry]
    styles: Sequence[tuple[str, str]]  # colour and dashes of each entry


def figures_of(section: Section) -> dict[str, Callable[[], Figure]]:
    """What draws each figure, by the end of its file's name.

    Improvement only of several methods, sample efficiency where evaluations during training were logged, the cost of
    adapting where some were trained on each task alone.
    """
    figures = {"returns": partial(returns_figure, section), "profile": partial(profile_figure, section)}
    if len(section.entries) > 1:
        figures["improvement"] = partial(improvement_figure, section)
    if any(entry.curve for entry in section.entries):
        figures["efficiency"] = partial(efficiency_figure, section)
    if any(entry.method.task_steps for entry in section.entries):
        figures["cost"] = partial(cost_figure, section)
    return {**figures}


def returns_figure(section: Section) -> Figure:
    """Return of episode k, IQM and interval, of each method."""
    figure, axes, entries, styles = _canvas(section, section.entries)
    for place, (entry, (colour, dash)) in enumerate(zip(entries, styles, strict=True)):
        value, low, high = entry.estimate
        ends = np.maximum([value - low, high - value], 0)  # rounding may put the value a hair outside its interval
        k = np.arange(len(value)) + DODGE * (place - (len(entries) - 1) / 2)
        axes.errorbar(
            k, value, yerr=ends, color=colour, linestyle=dash, linewidth=1.4, marker="o", markersize=4, capsize=3
        )
    open_axes(axes, "episode k of the trial", "return, IQM and 95 % interval")
    axes.xaxis.set_major_locator(MaxNLocator(TICKS, integer=True))
    axes.margins(x=0.08)
    _label(axes, {entry.label: float(entry.estimate.value[-1]) for entry in entries}, styles)
    return figure


def profile_figure(section: Section) -> Figure:
    """Share of the last episodes that return more than each level."""
    figure, axes, entries, styles = _canvas(section, section.entries)
    for entry, (colour, dash) in zip(entries, styles, strict=True):
        value, low, high = entry.profile
        _banded(axes, (section.levels, value, low, high), colour, dash)
    last = section.n_episodes - 1
    open_axes(axes, f"return level, k = {last}", "share of trials above the level")
    axes.set_ylim(-0.02, 1.02)
    _legend(axes, entries, styles)
    return figure


def improvement_figure(section: Section) -> Figure:
    """Of every two methods, the probability that the row's returns more than the column's, in the last episode."""
    figure, axes, entries, _ = _canvas(section, section.entries)
    at_last = [[of.beats[other.label].value[-1] if of is not other else np.nan for other in entries] for of in entries]
    axes.imshow(at_last, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(np.array(at_last)):
        if row != column:
            ink = "white" if abs(value - 0.5) > 0.2 else INK
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=ink)
    numbers = range(1, len(entries) + 1)  # columns are called by their number: long labels have no place above them
    axes.set_xticks(range(len(entries)), [str(number) for number in numbers])
    labels = [f"{wrapped(entry.label)}  {number}" for entry, number in zip(entries, numbers, strict=True)]
    axes.set_yticks(range(len(entries)), labels)
    axes.tick_params(length=0, colors=INK, labelsize=9)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(f"P(row better than column), k = {section.n_episodes - 1}", color=INK)
    return figure


def efficiency_figure(section: Section) -> Figure:
    """Return of the last episode against environment steps, as evaluated during training: mean and range of seeds."""
    figure, axes, entries, styles = _canvas(section, [entry for entry in section.entries if entry.curve])
    ends = {}
    for entry, (colour, dash) in zip(entries, styles, strict=True):
        assert entry.curve is not None
        steps, mean, low, high = entry.curve
        _banded(axes, (steps, mean, low, high), colour, dash)
        ends[entry.label] = float(mean[-1])
    open_axes(axes, "environment steps", f"return, k = {section.n_episodes - 1}: mean, range of seeds")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    _label(axes, ends, styles)
    return figure


def cost_figure(section: Section) -> Figure:
    """Return against environment steps on the task: of the trial's episodes before k, or of training on it alone.

    The last episode's of what was trained, one line for all its numbers of steps; up to an episode the axis is linear.
    """
    figure, axes, entries, styles = _canvas(section, section.entries)
    episode_steps = section.entries[0].results[0].episode_steps
    lines: dict[str, list[tuple[float, ...]]] = {}
    looks: dict[str, tuple[str, str]] = {}
    for entry, look in zip(entries, styles, strict=True):
        steps, label = entry.method.task_steps, entry.method.line
        estimates = zip(*entry.estimate, strict=True)
        points = [(float(k * episode_steps), *each) for k, each in enumerate(estimates)]
        lines.setdefault(label, []).extend(points if steps is None else [(float(steps), *points[-1][1:])])
        looks.setdefault(label, look)
    for label, line in lines.items():
        steps_on_task, value, low, high = np.array(sorted(line)).T
        _banded(axes, (steps_on_task, value, low, high), *looks[label], marker="o")
    axes.set_xscale("symlog", linthresh=episode_steps)
    open_axes(axes, "environment steps on the task", "return, IQM and 95 % interval")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    label_ends(axes, {label: max(line)[1] for label, line in lines.items()}, [c for c, _ in looks.values()])
    return figure


def _canvas(section: Section, entries: Sequence[Entry]) -> Canvas:
    shown = entries[:LINES_SHOWN]
    order = sorted(
        {entry.method.line for entry in section.entries}
    )  # which have one colour in all figures of a section
    styles = dict(zip(order, line_styles(order), strict=True))
    n_lines = sum(1 + wrapped(entry.label).count("\n") for entry in shown)
    height = max(SIZE[1], ROOM + LABEL_GAP * n_lines)
    figure = new_figure(SIZE[0], height, section.title)
    axes = figure.subplots()
    axes.locator_params(nbins=TICKS)
    return Canvas(figure, axes, shown, [styles[entry.method.line] for entry in shown])


def _banded(axes: Axes, curve: tuple[Array, Array, Array, Array], colour: str, dash: str, marker: str = "") -> None:
    x, value, low, high = curve
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(x, value, color=colour, linestyle=dash, linewidth=1.4, marker=marker, markersize=4)


def _label(axes: Axes, ends: dict[str, float], styles: Sequence[tuple[str, str]]) -> None:
    label_ends(axes, ends, [colour for colour, _ in styles])


def _legend(axes: Axes, entries: Sequence[Entry], styles: Sequence[tuple[str, str]]) -> None:
    """Curves that all end at zero cannot be labelled there: their labels stand in the order of their middles."""
    middles = {
        entry.label: float(np.interp(0.5, entry.profile.value[::-1], np.arange(len(entry.profile.value))[::-1]))
        for entry in entries
    }
    low, high = axes.get_ylim()
    largest = max(middles.values()) or 1.0
    ends = {label: low + (high - low) * middle / largest for label, middle in middles.items()}
    _label(axes, ends, styles)
