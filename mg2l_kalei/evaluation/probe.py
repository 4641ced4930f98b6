"""Linear probe: how well one agent's local latent alone tells the task, judged on trials it was not fitted on."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mg2l_kalei.evaluation.statistics import Array

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline  # imported where it is used: it takes two seconds

MAX_ITERATIONS = 1000  # of L-BFGS; standardised inputs under an L2 penalty need far fewer


class ProbeReadings(NamedTuple):
    """Balanced accuracy of the probe at chosen moments of the trial."""

    steps: tuple[int, ...]  # transitions that the latent was inferred from
    accuracy: Array  # (n_moments, N)   NaN with fewer than two trials per task
    chance: float  # 1 / n_tasks


def read_probes(latents: Array, steps: tuple[int, ...]) -> ProbeReadings:
    """Probe every agent at every moment: latents (n_moments, n_tasks, n_trials, N, local_dim)."""
    from threadpoolctl import threadpool_limits

    n_agents = latents.shape[3]
    with threadpool_limits(1):  # the problems are tiny: threads only wait for one another, five times as long
        accuracy = [[probe_accuracy(at[:, :, agent]) for agent in range(n_agents)] for at in latents]
    return ProbeReadings(steps, np.array(accuracy), 1 / latents.shape[1])


def probe_accuracy(latents: Array) -> float:
    """Balanced accuracy on the odd trials of a probe fitted on the even ones: latents (n_tasks, n_trials, dim).

    Trials are independent, so splitting them by parity is as good as drawing lots, and repeatable.
    """
    from sklearn.metrics import balanced_accuracy_score

    n_tasks, n_trials, _ = latents.shape
    if n_tasks == 1:
        return 1.0
    if n_trials < 2:
        return float("nan")
    judged, task = _rows(latents[:, 1::2])
    probe = _fit(latents[:, ::2])
    return float(balanced_accuracy_score(task, probe.predict(judged)))


def task_probabilities(fitted_on: Array, latents: Array) -> Array:
    """What the probe of each agent believes, for pictures: probability of each task, (T, N, n_tasks).

    Fitted on latents (n_moments, n_tasks, n_trials, N, dim), all moments together, so that it has also seen unsure
    ones. Read at ``latents`` (T, N, dim) of one trial, which must not be among those.
    """
    n_moments, n_tasks, n_trials, n_agents, dim = fitted_on.shape
    if n_tasks == 1:
        return np.ones((len(latents), n_agents, 1))
    pooled = np.swapaxes(fitted_on, 0, 1).reshape(n_tasks, n_moments * n_trials, n_agents, dim)
    beliefs = [_fit(pooled[:, :, n]).predict_proba(_widened(latents[:, n])) for n in range(n_agents)]
    return np.stack(beliefs, axis=1)


def _fit(latents: Array) -> Pipeline:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, task = _rows(latents)
    probe: Pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes")  # many tasks, few trials: not continuous ones
        return probe.fit(rows, task)


def _rows(latents: Array) -> tuple[Array, Any]:
    """(n_tasks, n_trials, dim) -> rows (n_tasks * n_trials, dim) and their task numbers."""
    n_tasks, n_trials, dim = latents.shape
    return _widened(latents.reshape(n_tasks * n_trials, dim)), np.repeat(np.arange(n_tasks), n_trials)


def _widened(rows: Array) -> Array:
    """Rows as float64; a latent without features gets a constant one, so that its probe reads chance."""
    rows = rows.astype(np.float64)
    return rows if rows.shape[-1] else np.zeros((len(rows), 1))
