"""Aggregates of returns and what is known about them: IQM, stratified bootstrap, adaptation score.

Everywhere ``returns`` is (n_seeds, n_tasks, n_trials, K): return of episode k in each trial, on each task, by each
separately trained run. Source: Agarwal et al., "Deep RL at the edge of the statistical precipice" (NeurIPS 2021).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

TRIMMED = 0.25  # share of the values that the IQM leaves out at each end
CONFIDENCE = 0.95  # of percentile intervals
N_RESAMPLES = 2000
BLOCK = 2_000_000  # values resampled at once: bounds memory


class Estimate(NamedTuple):
    """An aggregate at each k and its bootstrap interval."""

    value: Array  # (K,)
    low: Array  # (K,)
    high: Array  # (K,)


class Score(NamedTuple):
    """(return - none) / (oracle - none) at each k: 0 is no task inference, 1 is knowing the task."""

    score: Estimate  # NaN where there is no gap
    gap: Estimate  # oracle - none, in units of return
    has_gap: NDArray[np.bool_]  # (K,)   the gap's whole interval is above zero


def interquartile_mean(values: Array) -> Array:
    """Mean of the middle half of the values along the last axis: (..., n) -> (...).

    Leaves out ``int(n / 4)`` values at each end, as ``scipy.stats.trim_mean`` does.
    Raises ValueError on NaN: an episode that was not finished has no return.
    """
    if np.isnan(values).any():
        raise ValueError("returns hold NaN (episodes that were not finished); an IQM over them would mislead")
    n_values = values.shape[-1]
    n_cut = int(TRIMMED * n_values)
    parted = np.partition(values, (n_cut, n_values - n_cut - 1), axis=-1)
    return np.asarray(parted[..., n_cut : n_values - n_cut].mean(axis=-1))


def aggregate(returns: Array) -> Array:
    """IQM over seeds, tasks and trials together: (..., n_seeds, n_tasks, n_trials, K) -> (..., K)."""
    pooled = returns.astype(np.float64).reshape(*returns.shape[:-4], -1, returns.shape[-1])
    return interquartile_mean(np.ascontiguousarray(np.swapaxes(pooled, -1, -2)))


def bootstrap(returns: Array, generator: np.random.Generator, n_resamples: int = N_RESAMPLES) -> Array:
    """The aggregate of resampled data: (n_resamples, K).

    - Tasks are the strata: fixed, never resampled. An interval speaks about these tasks, not about all tasks there are.
    - Seeds are resampled with replacement, jointly for all tasks, because one network plays all of them.
    - Within each resampled seed and task, trials are resampled with replacement. A trial keeps its K episodes.

    With one seed the interval holds the noise of trials only, and says nothing about training again.
    With several, resampling at both levels counts the noise of trials twice: intervals err on the wide side.
    """
    n_seeds, n_tasks, n_trials, _ = returns.shape
    task = np.arange(n_tasks)[:, None]
    n_at_once = max(1, BLOCK // returns.size)
    resampled = []
    for done in range(0, n_resamples, n_at_once):
        n = min(n_at_once, n_resamples - done)
        seed = generator.integers(n_seeds, size=(n, n_seeds, 1, 1))
        trial = generator.integers(n_trials, size=(n, n_seeds, n_tasks, n_trials))
        resampled.append(aggregate(returns[seed, task, trial]))
    return np.concatenate(resampled)


def percentile_interval(resampled: Array) -> tuple[Array, Array]:
    """Lower and upper end of the central ``CONFIDENCE`` part: (n_resamples, K) -> two of (K,)."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    return low, high


def estimate(returns: Array, generator: np.random.Generator, n_resamples: int = N_RESAMPLES) -> Estimate:
    """IQM at each k with its bootstrap interval."""
    return Estimate(aggregate(returns), *percentile_interval(bootstrap(returns, generator, n_resamples)))


def adaptation_score(
    run: Array, none: Array, oracle: Array, generator: np.random.Generator, n_resamples: int = N_RESAMPLES
) -> Score:
    """Where a run stands between not inferring the task and knowing it, on aggregates at the same k.

    The three are separate experiments, so they are resampled independently (they may differ in seeds and trials).
    Where the gap's interval reaches zero the score is NaN: a ratio to a gap that may not exist means nothing.
    """
    run_at, none_at, oracle_at = (aggregate(returns) for returns in (run, none, oracle))
    runs, nones, oracles = (bootstrap(returns, generator, n_resamples) for returns in (run, none, oracle))
    return score_of((run_at, runs), (none_at, nones), (oracle_at, oracles))


Resampled = tuple[Array, Array]  # an aggregate (K,) and its ``bootstrap`` (n_resamples, K)


def score_of(run: Resampled, none: Resampled, oracle: Resampled) -> Score:
    """``adaptation_score`` of what is aggregated and resampled already, as many times each."""
    (run_at, runs), (none_at, nones), (oracle_at, oracles) = run, none, oracle
    gap = Estimate(oracle_at - none_at, *percentile_interval(oracles - nones))
    has_gap = gap.low > 0
    value = (run_at - none_at) / np.where(has_gap, gap.value, np.nan)
    with np.errstate(divide="ignore"):  # of a resample that has no gap, the score is infinite
        values = (runs - nones) / np.where(has_gap, oracles - nones, np.nan)
    return Score(Estimate(value, *percentile_interval(values)), gap, has_gap)


def resampled_counts(shape: tuple[int, int, int], generator: np.random.Generator, n_resamples: int) -> Array:
    """How often resamples drawn as by ``bootstrap`` hold each trial: (n_tasks, n_seeds * n_trials, n_resamples).

    ``shape`` is (n_seeds, n_tasks, n_trials). Counts are float32, and those of a task sum to n_seeds * n_trials. Means
    and sorted sums over resamples are then products, much faster than gathering the trials themselves.
    """
    n_seeds, n_tasks, n_trials = shape
    of_seed = generator.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n_resamples)
    n_drawn = np.broadcast_to(of_seed[:, None] * n_trials, (n_resamples, n_tasks, n_seeds))
    counts = generator.multinomial(n_drawn, np.full(n_trials, 1 / n_trials)).reshape(n_resamples, n_tasks, -1)
    return np.ascontiguousarray(counts.transpose(1, 2, 0), dtype=np.float32)


def resampled_aggregate(returns: Array, counts: Array) -> Array:
    """``aggregate`` of each resample that ``counts`` are of: (n_resamples, K), as ``bootstrap`` gives it."""
    n_episodes, n_resamples = returns.shape[-1], counts.shape[-1]
    values = returns.swapaxes(0, 1).reshape(-1, n_episodes)  # in the order of the counts
    n_values = len(values)
    of_values = counts.reshape(n_values, n_resamples)
    n_cut = int(TRIMMED * n_values)
    n_at_once = max(1, BLOCK // n_values)
    resampled = np.empty((n_resamples, n_episodes))
    for k in range(n_episodes):
        order = np.argsort(values[:, k])
        middle = values[order[n_values // 2], k]
        sorted_values = values[order, k].astype(np.float64) - middle  # so that little is lost in float32
        steps = -np.diff(sorted_values, append=0).astype(np.float32)
        for done in range(0, n_resamples, n_at_once):
            block = slice(done, done + n_at_once)
            kept = of_values[order, block]
            for row in range(1, n_values):
                kept[row] += kept[row - 1]  # twice as fast as np.cumsum, which goes down columns
            np.clip(kept, n_cut, n_values - n_cut, out=kept)  # sum of x * count is summed by parts
            sums = steps @ kept - n_cut * sorted_values[0]
            resampled[block, k] = middle + sums / (n_values - 2 * n_cut)
    return resampled


def improvement(run: Array, other: Array, counts: Array, other_counts: Array) -> Estimate:
    """Probability that a trial of ``run`` returns more than one of ``other`` on the same task, a tie being half.

    Mean over tasks, at each k: Mann and Whitney's U over the number of pairs. The two are resampled independently:
    ``counts`` and ``other_counts`` are their ``resampled_counts``.
    """
    n_tasks, _, n_resamples = counts.shape
    value, resampled = np.empty(run.shape[-1]), np.empty((n_resamples, run.shape[-1]))
    for k in range(run.shape[-1]):
        ours, theirs = (of[..., k].swapaxes(0, 1).reshape(n_tasks, -1) for of in (run, other))
        wins = (ours[:, None] > theirs[..., None]) + np.float32(0.5) * (ours[:, None] == theirs[..., None])
        value[k] = wins.mean(dtype=np.float64)
        beaten = wins @ counts  # (n_tasks, others' trials, n_resamples)
        resampled[:, k] = np.einsum("tjr,tjr->r", beaten, other_counts, dtype=np.float64) / wins.size
    return Estimate(value, *percentile_interval(resampled))


def performance_profile(returns: Array, levels: Array, counts: Array) -> Estimate:
    """Share of all trials whose return exceeds each level, with pointwise intervals.

    ``returns`` are those of one k, (n_seeds, n_tasks, n_trials); ``levels`` (L,), and so are the estimate's arrays.
    """
    above = (returns.swapaxes(0, 1).reshape(-1, 1) > levels).astype(np.float32)
    resampled = counts.reshape(len(above), -1).T @ above / len(above)
    return Estimate(above.mean(axis=0, dtype=np.float64), *percentile_interval(resampled))
