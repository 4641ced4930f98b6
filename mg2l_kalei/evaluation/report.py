"""The adaptation table, as plain text that also reads well in a log file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mg2l_kalei.evaluation.comparison import Comparison, Line
from mg2l_kalei.evaluation.results import AdaptationResult
from mg2l_kalei.evaluation.statistics import CONFIDENCE, Estimate

TASKS_SHOWN = 10  # rows of the by-task part at most
ORDER = ("oracle", "none")  # the oracle stands above the run, none below it


def adaptation_table(comparison: Comparison) -> str:
    """Returns with intervals at each k, score, returns by task, and probe readings."""
    run = comparison.lines[0].seeds[0]
    n_tasks, n_trials, n_episodes = run.returns.shape
    size = f"{n_tasks} tasks x {n_trials} trials, {n_episodes} episodes of {run.episode_steps} steps"
    if run.actions != "mode":
        size += f", actions {run.actions}"
    blocks = ["\n".join([f"{run.family}, {run.split_label}: {size}", *comparison.notes]), _return_block(comparison)]
    if n_tasks > 1 and comparison.by_task:
        blocks.append(_task_block(comparison))
    if n_tasks > 1:  # a single one is always told
        blocks.append(_probe_block(comparison.lines))
    return "\n\n".join(blocks) + "\n"


def _return_block(comparison: Comparison) -> str:
    n_episodes = len(comparison.lines[0].estimate.value)
    decimals = decimals_for([line.estimate for line in comparison.lines])
    rows = [["", *(f"k = {k}" for k in range(n_episodes)), "seeds", "env steps"]]
    for line in _from_best(comparison.lines):
        steps = sorted({result.env_steps for result in line.seeds})
        tail = [str(len(line.seeds)), " ".join(f"{n:,}" for n in steps)]
        rows.append([line.label, *_intervals(line.estimate, decimals), *tail])
        if line is comparison.lines[0] and comparison.sampled is not None:
            rows.append(["  with sampled latents", *_intervals(comparison.sampled, decimals), "", ""])
    if comparison.score is not None:
        none = next(line for line in comparison.lines if line.label == "none")
        with np.errstate(divide="ignore", invalid="ignore"):  # a team that is paid nothing has no share
            share = 100 * comparison.score.gap.value / np.abs(none.estimate.value)
        rows.append(["oracle - none", *_intervals(comparison.score.gap, decimals), "", ""])
        rows.append(["  in % of |none|", *(f"{value:.0f} %" if np.isfinite(value) else "" for value in share), "", ""])
        rows.append([f"score of {comparison.lines[0].label}", *_intervals(comparison.score.score, 2), "", ""])
    return f"return of episode k: IQM [{CONFIDENCE:.0%} interval]\n" + aligned(rows)


def _from_best(lines: Sequence[Line]) -> list[Line]:
    """Oracle, the run, further references, none."""
    last = len(lines)
    place = {ORDER[0]: -1, ORDER[1]: last}
    return [line for _, line in sorted(enumerate(lines), key=lambda pair: place.get(pair[1].label, pair[0]))]


def _task_block(comparison: Comparison) -> str:
    run = comparison.lines[0].seeds[0]
    shown = list(zip(run.tasks, comparison.by_task, strict=True))[:TASKS_SHOWN]
    header = [f"{comparison.lines[0].label} by task", *(f"k = {k}" for k in range(run.returns.shape[-1]))]
    decimals = decimals_for(comparison.by_task)
    rows = [[name, *_intervals(at_task, decimals)] for name, at_task in shown]
    left_out = len(run.tasks) - len(shown)
    tail = f"\n... and {left_out} more tasks" if left_out else ""
    return aligned([header, *rows]) + tail


def _probe_block(lines: Sequence[Line]) -> str:
    probe = lines[0].seeds[0].probe
    title = "task read off one agent's local latent alone, by a linear probe, on trials that it was not fitted on"
    rows = [["balanced accuracy after n steps", *(str(step) for step in probe.steps)]]
    rows += [[line.label, *_mean_accuracy(line.seeds)] for line in _from_best(lines)]
    worst = np.min([result.probe.accuracy for result in lines[0].seeds], axis=(0, 2))
    rows.append([f"{lines[0].label}, worst agent", *(f"{value:.2f}" for value in worst)])
    rows.append(["chance", *(f"{probe.chance:.2f}" for _ in probe.steps)])
    return title + "\n" + aligned(rows)


def _mean_accuracy(seeds: Sequence[AdaptationResult]) -> list[str]:
    mean = np.mean([result.probe.accuracy for result in seeds], axis=(0, 2))
    return [f"{value:.2f}" for value in mean]


def decimals_for(estimates: Sequence[Estimate]) -> int:
    """As many as the largest value leaves room for, the same in all rows."""
    largest = max(float(np.abs(estimate.value).max()) for estimate in estimates)
    return 2 if largest < 10 else 1 if largest < 1000 else 0


def _intervals(estimate: Estimate, decimals: int) -> list[str]:
    """One cell per k. Only scores can be missing, for want of a gap."""
    cells = []
    for value, low, high in zip(*estimate, strict=True):
        known = f"{value:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"
        cells.append("no gap" if np.isnan(value) else known)
    return cells


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
