"""What a report says of each family and split: every method's estimates, and what a reader must know of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np

from mg2l_kalei.evaluation.comparison import ENOUGH_SEEDS
from mg2l_kalei.evaluation.reports.methods import Method, methods_of, reference_of, variants_of
from mg2l_kalei.evaluation.reports.stored import StoredRun
from mg2l_kalei.evaluation.results import AdaptationResult
from mg2l_kalei.evaluation.statistics import (
    Array,
    Estimate,
    Resampled,
    Score,
    aggregate,
    improvement,
    percentile_interval,
    performance_profile,
    resampled_aggregate,
    resampled_counts,
    score_of,
)
from mg2l_kalei.seeding import numpy_generator

SPLITS = ("train", "test", "ood")  # in the order that a report has them
N_LEVELS = 101  # of return, at which performance profiles are read
FEWER = 500  # resamples of an improvement, which compares all pairs of trials
SHARED_COUNTS = 16  # shapes and places whose resamples are kept for other sections: tens of MB each
Counts = Callable[[tuple[int, int, int], int], Array]  # of the shape of returns, and a method's place in its section
THREADS = 2  # sections at once: most of the time is numpy's, without the interpreter's lock


class Curve(NamedTuple):
    """Return of the last episode as evaluations during training logged it, over seeds."""

    env_steps: Array  # (n,)
    mean: Array  # (n,)
    low: Array  # (n,)   the worst seed
    high: Array  # (n,)   the best seed


class Entry(NamedTuple):
    """One method on one split."""

    method: Method
    results: tuple[AdaptationResult, ...]  # of its seeds
    estimate: Estimate  # (K,)
    score: Score | None  # between its none and oracle
    beats: Mapping[str, Estimate]  # other method's label -> probability (K,) to return more than it
    none: str | None  # label of the line none that it is compared with
    profile: Estimate  # (L,)   at the last k
    curve: Curve | None

    @property
    def label(self) -> str:
        return self.method.label

    @property
    def improvement(self) -> Estimate | None:
        """Probability (K,) to return more than its none."""
        return None if self.none is None else self.beats[self.none]

    @property
    def env_steps(self) -> list[int]:
        return sorted({result.env_steps for result in self.results})

    @property
    def n_trials(self) -> int:
        return int(self.results[0].returns.shape[1])


class Section(NamedTuple):
    """One family, in one variant where there are several that must not be compared, and split."""

    family: str
    split: str
    entries: tuple[Entry, ...]  # from the best at the last k
    levels: Array  # (L,) of return
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{self.family}, {self.entries[0].results[0].split_label}"

    @property
    def n_episodes(self) -> int:
        return len(self.entries[0].estimate.value)


def sections_of(runs: Sequence[StoredRun], n_resamples: int) -> list[Section]:
    """Every family and split that the runs were evaluated on. Raises Refusal where runs must not be compared."""
    wanted = []
    for name, variant in variants_of(runs).items():
        methods = methods_of(variant)
        splits = {result.split for run in variant for result in run.results}
        wanted += [(name, methods, split) for split in SPLITS if split in splits]
    counts_of = _shared_counts(n_resamples)
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda each: _section(each[0], each[1], each[2], counts_of), wanted))


def _shared_counts(n_resamples: int) -> Counts:
    """See ``resampled_counts``: of methods in different places of a section independent, of sections the same."""

    @lru_cache(maxsize=SHARED_COUNTS)  # gone with this report
    def counts_of(shape: tuple[int, int, int], place: int) -> Array:
        return resampled_counts(shape, numpy_generator(0, "report", str(place)), n_resamples)

    return counts_of


def _section(name: str, methods: Sequence[Method], split: str, counts_of: Counts) -> Section:
    played = {method: results for method in methods if (results := _on_split(method, split))}
    returns = {method: _stacked(results) for method, results in played.items()}
    counts = {method: counts_of(values.shape[:3], place) for place, (method, values) in enumerate(returns.items())}
    resampled: dict[Method, Resampled] = {
        method: (aggregate(values), resampled_aggregate(values, counts[method])) for method, values in returns.items()
    }
    last = [values[..., -1] for values in returns.values()]
    levels = np.linspace(min(map(np.min, last)), max(map(np.max, last)), N_LEVELS)
    beats = _pairs(returns, counts)
    entries, notes = [], []
    for method, results in played.items():
        none, oracle = (reference_of(method, role, list(played)) for role in ("none", "oracle"))
        is_line = method.role in ("none", "oracle")
        score = None
        if none and oracle and not is_line:
            score = score_of(resampled[method], resampled[none], resampled[oracle])
        compared = none.label if none and none is not method else None
        value, values = resampled[method]
        estimate = Estimate(value, *percentile_interval(values))
        profile = performance_profile(returns[method][..., -1], levels, counts[method])
        curve = _curve(method, split)
        entries.append(Entry(method, results, estimate, score, beats[method], compared, profile, curve))
        notes += _notes_on(method, results, [line for line in (none, oracle) if line and line is not method], played)
    entries.sort(key=lambda entry: -entry.estimate.value[-1])
    return Section(name, split, tuple(entries), levels, (*_notes(entries), *notes))


def _pairs(returns: Mapping[Method, Array], counts: Mapping[Method, Array]) -> dict[Method, dict[str, Estimate]]:
    """Of each method, by every other's label, the probability to return more than it."""
    fewer = {method: np.ascontiguousarray(of[..., :FEWER]) for method, of in counts.items()}
    beats: dict[Method, dict[str, Estimate]] = {method: {} for method in returns}
    for one, other in combinations(returns, 2):
        value, low, high = better = improvement(returns[one], returns[other], fewer[one], fewer[other])
        beats[one][other.label] = better
        beats[other][one.label] = Estimate(1 - value, 1 - high, 1 - low)  # a tie is half to either
    return beats


def _on_split(method: Method, split: str) -> tuple[AdaptationResult, ...]:
    return tuple(result for run in method.runs for result in run.results if result.split == split)


def _stacked(results: Sequence[AdaptationResult]) -> Array:
    """(n_seeds, n_tasks, n_trials, K): of seeds with more trials than others, the first."""
    n_trials = min(result.returns.shape[1] for result in results)
    return np.stack([result.returns[:, :n_trials] for result in results])


def _curve(method: Method, split: str) -> Curve | None:
    """At the environment steps that all seeds that logged some have in common; None where these are fewer than two."""
    logged = []
    for run in method.runs:
        of_split = [result for result in run.results if result.split == split]
        metric = f"evaluation/{split}/return_k{of_split[0].returns.shape[-1] - 1}" if of_split else ""
        values = {row["env_steps"]: row[metric] for row in run.metrics if row.get(metric) is not None}
        logged += [values] if values else []  # published results have no metrics
    steps = sorted(set.intersection(*map(set, logged))) if logged else []
    if len(steps) < 2:
        return None
    curves = np.array([[of_seed[step] for step in steps] for of_seed in logged])
    return Curve(np.array(steps, dtype=np.float64), curves.mean(axis=0), curves.min(axis=0), curves.max(axis=0))


def _notes(entries: Sequence[Entry]) -> list[str]:
    notes = []
    counts = {entry.label: len(entry.results) for entry in entries}
    few = [f"{label} {n}" for label, n in counts.items() if n < ENOUGH_SEEDS]
    if few:
        notes.append(f"preliminary: fewer than {ENOUGH_SEEDS} seeds ({', '.join(few)})")
    if 1 in counts.values():
        notes.append("intervals of a single seed hold the noise of trials only, not that of training again")
    trials = {entry.label: entry.n_trials for entry in entries}
    if len(set(trials.values())) > 1:
        notes.append("trials per task: " + ", ".join(f"{label} {n}" for label, n in trials.items()))
    for role in ("none", "oracle"):
        if role not in [entry.method.role for entry in entries]:
            notes.append(f"no run is the line {role}: no scores")
    return notes


def _notes_on(
    method: Method,
    results: Sequence[AdaptationResult],
    lines: Sequence[Method],
    played: dict[Method, tuple[AdaptationResult, ...]],
) -> list[str]:
    notes = []
    steps = {result.env_steps for result in results}
    if len(steps) > 1:
        notes.append(f"seeds of {method.label} were trained for different numbers of steps")
    for line in lines:
        if {result.env_steps for result in played[line]} != steps and method.role == "":
            notes.append(f"{method.label} was trained for another number of steps than {line.label}")
        if {result.seed for result in played[line]} != {result.seed for result in results} and method.role == "":
            notes.append(f"{method.label} has other seeds than {line.label}")
    return notes
