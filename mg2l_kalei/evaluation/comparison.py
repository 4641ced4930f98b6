"""A run beside its reference lines: none (no task inference), oracle (given the task), and any others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from envs.core import Refusal
from mg2l_kalei.evaluation.results import AdaptationResult
from mg2l_kalei.evaluation.statistics import Array, Estimate, Score, adaptation_score, estimate

ENOUGH_SEEDS = 5  # for a claim


class Line(NamedTuple):
    """One method: all of its seeds on one split."""

    label: str
    seeds: tuple[AdaptationResult, ...]
    estimate: Estimate  # over seeds, tasks and trials

    @property
    def returns(self) -> Array:
        """(n_seeds, n_tasks, n_trials, n_episodes)."""
        return np.stack([result.returns for result in self.seeds])


class Comparison(NamedTuple):
    """The run first, then its references; the score where both none and oracle are among them."""

    lines: tuple[Line, ...]
    sampled: Estimate | None  # the run with sampled latents
    by_task: tuple[Estimate, ...]  # the run on each of its tasks; none where its seeds have tasks of their own
    score: Score | None
    notes: tuple[str, ...]  # what a reader must know before believing it


def compare(
    label: str,
    run: Sequence[AdaptationResult],
    references: Mapping[str, Sequence[AdaptationResult]],
    generator: np.random.Generator,
) -> Comparison:
    """Aggregate a run (several runs of one method are its seeds) and its references, by label.

    The score needs references called "none" and "oracle". ``generator`` draws the bootstrap.
    Raises Refusal where family, split, episodes, actions, or numbers of tasks and trials within a line differ.
    """
    if label in references:
        raise Refusal(f"{label}: the run and a reference line have the same name")
    methods = {label: tuple(run)} | {name: tuple(results) for name, results in references.items()}
    for name, results in methods.items():
        _refuse_mixture(name, results, run[0])
    lines = tuple(Line(name, results, _estimate(results, generator)) for name, results in methods.items())
    returns = {line.label: line.returns for line in lines}
    sampled = [result.sampled_returns for result in run if result.sampled_returns is not None]
    score = None
    if {"none", "oracle"} <= references.keys():
        score = adaptation_score(returns[label], returns["none"], returns["oracle"], generator)
    n_same = len(run[0].tasks) if len({result.fingerprint for result in run}) == 1 else 0
    return Comparison(
        lines=lines,
        sampled=estimate(np.stack(sampled), generator) if len(sampled) == len(run) else None,
        by_task=tuple(estimate(returns[label][:, [task]], generator) for task in range(n_same)),
        score=score,
        notes=_notes(lines),
    )


def _estimate(results: Sequence[AdaptationResult], generator: np.random.Generator) -> Estimate:
    return estimate(np.stack([result.returns for result in results]), generator)


def _refuse_mixture(label: str, results: Sequence[AdaptationResult], run: AdaptationResult) -> None:
    for result in results:
        given, expected = _kind(result), _kind(run)
        if given != expected:
            raise Refusal(f"{label}: (family, split, episodes, steps, actions) is {given}, but the run's is {expected}")
        if result.returns.shape != results[0].returns.shape:
            shapes = f"{result.returns.shape[:2]} and {results[0].returns.shape[:2]}"
            raise Refusal(f"{label}: seeds differ in (tasks, trials): {shapes}; evaluate them alike")


def _kind(result: AdaptationResult) -> tuple[str, str, int, int, str]:
    return (result.family, result.split, result.returns.shape[-1], result.episode_steps, result.actions)


def _notes(lines: Sequence[Line]) -> tuple[str, ...]:
    notes = []
    fewest = min(len(line.seeds) for line in lines)
    if fewest < ENOUGH_SEEDS:
        noun = "seed" if fewest == 1 else "seeds"
        notes.append(f"preliminary ({fewest} {noun} < {ENOUGH_SEEDS})")
    if any(len(line.seeds) == 1 for line in lines):
        notes.append("intervals of a single seed hold the noise of trials only, not that of training again")
    run = lines[0]
    if len({result.fingerprint for result in run.seeds}) > 1:
        notes.append(f"seeds of {run.label} have tasks of their own: there are no rows by task")
    for line in lines[1:]:
        if {result.fingerprint for result in line.seeds} != {result.fingerprint for result in run.seeds}:
            notes.append(f"{line.label} was evaluated on other tasks than {run.label}")
        if {result.env_steps for result in line.seeds} != {result.env_steps for result in run.seeds}:
            notes.append(f"{line.label} was trained for another number of steps than {run.label}")
    return tuple(notes)
