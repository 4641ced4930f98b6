"""``python -m mg2l_kalei curves``: what runs logged while they trained, as a table and a picture."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs.core import setting
from mg2l_kalei.config import ConfigError, differences
from mg2l_kalei.config.options import file_named, read_options
from mg2l_kalei.config.settings import nearest, problem
from mg2l_kalei.disk.metric_log import read_metrics
from mg2l_kalei.disk.output import say
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.evaluation.figures import pairs_figure, save_picture, training_figure
from mg2l_kalei.evaluation.report import aligned
from mg2l_kalei.evaluation.statistics import Array
from mg2l_kalei.training.saved_run import read_config
from mg2l_kalei.training.system import SCHEMA

N_PARTS = 10  # of the longest run, each a row of the table


@dataclass(frozen=True)
class CurvesOptions:
    metric: str = setting("train/episode_return", "which of those in metrics.jsonl")
    plugins: tuple[str, ...] = setting((), "the runs' plugins, if they name some: none is run that is not named here")
    out: str | None = setting(None, "the PNG; null: figures/curves[-METRIC].png in the first run's folder")


class Curve(NamedTuple):
    """A metric as it was logged."""

    env_steps: Array  # (n,)
    value: Array  # (n,)


def draw_curves(words: Sequence[str]) -> int:
    """Learning curves of runs on one task family against environment steps. Exit code 0, or 1 without a picture.

    What is also logged of pairs of members, such as how far their masks differ, is drawn of all pairs at three moments.
    """
    paths, options = read_options(words, CurvesOptions())
    if not paths:
        raise ConfigError(["curves: expected the folders of runs"])
    named = file_named(options.out, ".png")
    folders = list({Path(path).resolve(): RunFolder(Path(path)) for path in paths}.values())
    rows = {label: read_metrics(folder.metrics) for label, folder in _labels(folders, options.plugins).items()}
    curves = {label: _curve(label, logged, options.metric) for label, logged in rows.items()}
    say(_table(options.metric, curves))
    if named is None:
        folders[0].refuse_links()
    other = "" if options.metric == CurvesOptions.metric else "-" + re.sub(r"[^\w.]+", "_", options.metric)
    out = named or folders[0].figures / f"curves{other}.png"
    drawn = {out: save_picture(out, lambda: training_figure(curves, options.metric))}
    for place, (label, logged) in enumerate(rows.items(), start=1):
        if moments := _pairs(logged, options.metric):
            of_pairs = out.with_name(f"{out.stem}-pairs{f'-{place}' if len(rows) > 1 else ''}.png")
            drawn[of_pairs] = save_picture(of_pairs, partial(pairs_figure, moments, f"{options.metric} · {label}"))
    for picture in [picture for picture, is_drawn in drawn.items() if is_drawn]:
        say(f"picture: {picture}")
    return 0 if all(drawn.values()) else 1


def _labels(folders: Sequence[RunFolder], plugins: Sequence[str]) -> dict[str, RunFolder]:
    """Recipe, what is set otherwise than in the first run of that recipe, and seed; of runs alike, also their place."""
    configs = [read_config(folder, plugins) for folder in folders]
    families = [config.kinds["env"] for config in configs]
    for folder, family in zip(folders, families, strict=True):
        if family != families[0]:
            reason = f"{folder.path} was trained on {family}, {folders[0].path} on {families[0]}"
            raise ConfigError([f"curves: {reason}: what they log cannot be compared"])
    firsts = {config.algo: config for config in reversed(configs)}
    labels = [
        " ".join([c.algo, *differences(replace(firsts[c.algo], seed=c.seed), c, SCHEMA), f"s{c.seed}"]) for c in configs
    ]
    alike = Counter(labels)
    order = enumerate(zip(labels, folders, strict=True), start=1)
    return {label if alike[label] == 1 else f"{label} #{place}": folder for place, (label, folder) in order}


def _curve(label: str, rows: Sequence[Mapping[str, Any]], metric: str) -> Curve:
    known = sorted({name for row in rows for name in row} - {"iteration", "env_steps"})
    points = [(row["env_steps"], row[metric]) for row in rows if row.get(metric) is not None]
    if metric not in known or not points:
        reason = f"{label} has logged none of it{'' if metric in known else nearest(metric, known)}"
        raise ConfigError([problem("command line", "metric", metric, reason)])
    return Curve(*np.array(points, dtype=np.float64).T)


def _pairs(rows: Sequence[Mapping[str, Any]], metric: str) -> dict[int, Array]:
    """By environment steps, ``METRIC_i_j`` of all pairs: symmetric (G, G), in the first row, the middle one, the last.

    None are there where no pair was logged.
    """
    name = re.compile(rf"{re.escape(metric)}_(\d+)_(\d+)")
    logged = [row for row in rows if any(name.fullmatch(key) for key in row)]
    chosen = [logged[place] for place in sorted({0, len(logged) // 2, len(logged) - 1})] if logged else []
    moments: dict[int, Array] = {}
    for row in chosen:
        pairs = {(int(m[1]), int(m[2])): row[key] for key in row if (m := name.fullmatch(key))}
        members = sorted({member for pair in pairs for member in pair})
        places = {member: place for place, member in enumerate(members)}
        matrix = np.zeros((len(members), len(members)))
        for (i, j), value in pairs.items():
            matrix[places[i], places[j]] = matrix[places[j], places[i]] = np.nan if value is None else value
        moments[row["env_steps"]] = matrix
    return moments


def _table(metric: str, curves: Mapping[str, Curve]) -> str:
    """Means of what was logged within each tenth of the longest run's steps."""
    edges = np.linspace(0, max(curve.env_steps[-1] for curve in curves.values()), N_PARTS + 1)
    rows = [["env steps", *curves]]
    for low, high in pairwise(edges):
        within = [curve.value[(low < curve.env_steps) & (curve.env_steps <= high)] for curve in curves.values()]
        rows.append([f"to {high:,.0f}", *(f"{values.mean():.4g}" if len(values) else "" for values in within)])
    return f"{metric}, means within these steps\n{aligned(rows)}"
