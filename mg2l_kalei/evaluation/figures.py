"""Pictures of an evaluation. Each function returns a figure; ``save_picture`` writes it, or only warns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mg2l_kalei.disk.durable import replacing
from mg2l_kalei.disk.output import printable
from mg2l_kalei.evaluation.comparison import Comparison, Line
from mg2l_kalei.evaluation.plot_style import (
    INK,
    label_ends,
    line_styles,
    new_figure,
    open_axes,
    scatter_tasks,
    task_colours,
)
from mg2l_kalei.evaluation.probe import ProbeReadings
from mg2l_kalei.evaluation.statistics import Array
from mg2l_kalei.sharing.figures import MemberFigure, PointFigure, SharingFigure

if TYPE_CHECKING:  # imported where they are used: they take a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150  # pixels per inch of saved pictures
QUICK = 3  # zlib's level for PNGs: in half the time of its usual 6, 6 % more bytes
NORMAL_95 = 1.96  # standard errors in half a 95 % interval
DODGE = 0.03  # episodes between the points of two lines, so that their intervals do not hide each other
AGENTS_SHOWN = 4  # rows of the task space at most
MOMENTS_SHOWN = 4  # its columns at most
CELLS_WRITTEN = 10  # members up to which the picture of pairs writes its numbers

log = logging.getLogger(__name__)


def save_picture(path: Path, draw: Callable[[], Figure], *others: Path) -> bool:
    """Draw and write a PNG or PDF, as the suffix says, and ``others`` of the same; whatever fails is a warning, and
    False: it never ends a run.

    Settings of matplotlib's files are put aside, as it reads one in the working directory, which may be anybody's: it
    can name code as the backend, and programs to run.
    """
    try:
        from matplotlib import style

        with style.context("default"):
            figure = draw()
            _lay_out(figure)
            for each in (path, *others):
                with replacing(each) as temporary:
                    _print(figure, temporary, each.suffix)
    except Exception as error:
        log.warning("picture %s was not written: %s: %s", path.name, type(error).__name__, printable(str(error)))
        return False
    return True


def _lay_out(figure: Figure) -> None:
    """Once, for all files."""
    figure.dpi = DPI
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")


def _print(figure: Figure, path: Path, suffix: str) -> None:
    """By the canvas itself: ``savefig`` would draw everything twice, to find out how large it is."""
    if suffix == ".png":
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        FigureCanvasAgg(figure).print_png(path, pil_kwargs={"compress_level": QUICK})
    else:
        from matplotlib.backends.backend_pdf import FigureCanvasPdf

        FigureCanvasPdf(figure).print_pdf(path)


def adaptation_figure(comparison: Comparison) -> Figure:
    """Left: reward at each step of the first episode, where online adaptation shows. Right: return of episode k."""
    from matplotlib.ticker import MaxNLocator

    run = comparison.lines[0].seeds[0]
    acted = [] if run.actions == "mode" else [f"actions {run.actions}"]
    figure = new_figure(9.0, 3.6, " · ".join([f"{run.family}, {run.split_label}", *acted, *comparison.notes[:1]]))
    within, across = figure.subplots(1, 2)
    styles = line_styles([line.label for line in comparison.lines])
    for place, (line, (colour, dash)) in enumerate(zip(comparison.lines, styles, strict=True)):
        _draw_first_episode(within, line, {"color": colour, "linestyle": dash})
        beside = DODGE * (place - (len(styles) - 1) / 2)
        _draw_returns(across, line, beside, {"color": colour, "linestyle": dash})
    open_axes(within, "step of the first episode", "reward per step, mean over agents")
    open_axes(across, "episode k of the trial", "return, IQM and 95 % interval")
    for axes in (within, across):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    across.margins(x=0.06)
    ends = {line.label: float(line.estimate.value[-1]) for line in comparison.lines}
    label_ends(across, ends, [colour for colour, _ in styles])
    return figure


def _draw_first_episode(axes: Axes, line: Line, style: dict[str, Any]) -> None:
    """Mean over seeds and tasks, with a 95 % interval from the noise of trials."""
    first = slice(0, line.seeds[0].episode_steps)
    mean = np.mean([result.step_reward[:, first].mean(axis=0) for result in line.seeds], axis=0)
    errors = np.concatenate([result.step_reward_error[:, first] for result in line.seeds])  # (seeds * tasks, steps)
    half = NORMAL_95 * np.sqrt((errors**2).sum(axis=0)) / len(errors)
    step = np.arange(1, len(mean) + 1)
    axes.fill_between(step, mean - half, mean + half, color=style["color"], alpha=0.18, linewidth=0)
    axes.plot(step, mean, linewidth=1.4, **style)


def _draw_returns(axes: Axes, line: Line, beside: float, style: dict[str, Any]) -> None:
    value, low, high = line.estimate
    ends = np.maximum([value - low, high - value], 0)  # rounding may put the value a hair outside its interval
    k = np.arange(len(value)) + beside
    axes.errorbar(k, value, yerr=ends, linewidth=1.4, marker="o", markersize=4, capsize=3, **style)


def task_space_figure(latents: Array, probe: ProbeReadings, tasks: Sequence[str]) -> Figure:
    """Local latents (n_moments, n_tasks, n_trials, N, dim), read at ``probe.steps``, in the plane of the last moment.

    A row per agent, a column per moment; every dot is one trial, coloured by its task.
    """
    columns = _spread_moments(len(probe.steps))
    n_agents = min(latents.shape[3], AGENTS_SHOWN)
    heading = f"Local task latents · probe: the task read off one agent's latent, chance {probe.chance:.2f}"
    figure = new_figure(2.5 * len(columns) + 0.5, 2.3 * n_agents + 0.9, heading)
    grid = figure.subplots(n_agents, len(columns), squeeze=False, sharex="row", sharey="row")
    for agent in range(n_agents):
        points = plane_coordinates(latents[columns, :, :, agent])
        for axes, moment, at in zip(grid[agent], columns, points, strict=True):
            scatter_tasks(axes, at, tasks)
            steps = probe.steps[moment]
            accuracy = f"probe {probe.accuracy[moment, agent]:.2f}"
            axes.set_title(f"after {steps} step{'s' * (steps != 1)} · {accuracy}", fontsize=9, color=INK)
        grid[agent][0].set_ylabel(f"agent {agent}", color=INK)
    if len(tasks) <= len(task_colours(0)):
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=len(tasks), fontsize=8, frameon=False)
    return figure


def plane_coordinates(latents: Array) -> Array:
    """Coordinates along the last moment's first two principal components: (n_moments, ..., dim) -> (n_moments, ..., 2).

    Components that do not exist (dim < 2) are zero.
    """
    *shape, dim = latents[-1].shape
    last = latents[-1].reshape(np.prod(shape), dim).astype(np.float64)
    components = np.zeros((dim, 2))
    if dim:
        found = np.linalg.svd(last - last.mean(axis=0), full_matrices=False)[2][:2].T
        components[:, : found.shape[1]] = found
    return np.asarray((latents - last.mean(axis=0)) @ components)


def _spread_moments(n_moments: int) -> list[int]:
    """At most ``MOMENTS_SHOWN`` numbers, from the first moment to the last, evenly spread."""
    return sorted({round(place) for place in np.linspace(0, n_moments - 1, MOMENTS_SHOWN)})


def sharing_figure(shown: SharingFigure) -> Figure:
    """How a sharing scheme's members differ, by pairs and one by one; or agents as points, and who belongs together."""
    return _point_figure(shown) if isinstance(shown, PointFigure) else _member_figure(shown)


def _point_figure(shown: PointFigure) -> Figure:
    points = plane_coordinates(shown.points.detach().cpu().numpy()[None])[0]  # (N, 2)
    figure = new_figure(4.2, 3.8, shown.title)
    axes, groups = figure.subplots(), np.asarray(shown.groups)
    colours = task_colours(int(groups.max()) + 1)
    for group in sorted(set(shown.groups)):
        of_group = groups == group
        axes.scatter(
            points[of_group, 0],
            points[of_group, 1],
            s=36,
            color=colours[group % len(colours)],
            label=f"group {group}: {int(of_group.sum())}",
            alpha=0.8,
        )
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    open_axes(axes, "first principal component", "second")
    return figure


def _member_figure(shown: MemberFigure) -> Figure:
    from matplotlib.ticker import MaxNLocator

    difference, each = (part.detach().cpu().numpy() for part in (shown.pairs, shown.each))
    n_members = len(each)
    figure = new_figure(7.2, 3.4, shown.title)
    pairs, bars = figure.subplots(1, 2)
    image = pairs.imshow(difference, cmap="cividis", vmin=0)
    figure.colorbar(image, ax=pairs, label=shown.pairs_label, fraction=0.046)
    if n_members <= CELLS_WRITTEN:
        middle = float(difference.max()) / 2
        for (row, column), value in np.ndenumerate(difference):
            ink = "black" if value > middle else "white"
            pairs.text(column, row, f"{value:.3f}", ha="center", va="center", fontsize=8, color=ink)
    pairs.set_xlabel("member", color=INK)
    pairs.set_ylabel("member", color=INK)
    bars.bar(np.arange(n_members), each, color=task_colours(1)[0], width=0.6)
    for axis in (pairs.xaxis, pairs.yaxis, bars.xaxis):
        axis.set_major_locator(MaxNLocator(min(n_members, CELLS_WRITTEN), integer=True))
    bars.set_ylim(0, max(0.05, 1.15 * float(np.max(each))))
    open_axes(bars, "member", shown.each_label)
    return figure


def training_figure(curves: Mapping[str, tuple[Array, Array]], quantity: str) -> Figure:
    """Named curves against environment steps: each (env_steps (n,), values (n,))."""
    from matplotlib.ticker import EngFormatter

    figure = new_figure(6.0, 3.4, "")
    axes = figure.subplots()
    styles = line_styles(list(curves))
    for (env_steps, values), (colour, dash) in zip(curves.values(), styles, strict=True):
        axes.plot(env_steps, values, color=colour, linestyle=dash, linewidth=1.4)
    open_axes(axes, "environment steps", quantity)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    ends = {name: float(values[-1]) for name, (_, values) in curves.items()}
    label_ends(axes, ends, [colour for colour, _ in styles])
    return figure


def pairs_figure(moments: Mapping[int, Array], title: str) -> Figure:
    """Heat maps of all pairs of members (G, G), in one scale, by the environment steps at which they were so."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(2.6 * len(moments) + 1.0, 3.2, title)
    panels = figure.subplots(1, len(moments), squeeze=False)[0]
    top = max(float(np.nanmax(pairs, initial=0.0)) for pairs in moments.values())
    for axes, (env_steps, pairs) in zip(panels, moments.items(), strict=True):
        image = axes.imshow(pairs, cmap="cividis", vmin=0, vmax=top or 1.0)
        axes.set_title(f"{env_steps:,} steps", fontsize=9, color=INK)
        axes.set_xlabel("member", color=INK)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(min(len(pairs), CELLS_WRITTEN), integer=True))
    figure.colorbar(image, ax=list(panels), fraction=0.046)
    return figure
