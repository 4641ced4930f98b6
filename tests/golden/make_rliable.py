"""Makes ``rliable.json``: aggregates and intervals by rliable itself, in an environment of its own.

``pip install rliable 'setuptools<81'``, then ``python tests/golden/make_rliable.py``. It is no dependency of the tests:
its own dependencies hold numpy back.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from rliable import library, metrics

N_RESAMPLES = 20_000
SHAPES = {"trials of one seed": (1, 3, 12), "seeds of one task": (10, 1, 1)}  # (n_seeds, n_tasks, n_trials)


def scores(shape: tuple[int, int, int], shift: float) -> np.ndarray:
    """(n_seeds, n_tasks, n_trials), rounded so that there are ties."""
    noise = np.random.default_rng(sum(shape))
    return np.round(noise.normal(shift, 1.0, size=shape) + np.arange(shape[1])[:, None], 1)


def case(shape: tuple[int, int, int]) -> dict[str, object]:
    """Runs of rliable are what is resampled within a task: trials of one seed, or seeds with one trial."""
    run, other = scores(shape, 0.4), scores((*shape[:2], shape[2] + (shape[0] == 1)), 0.0)
    matrices = {
        "run": run.transpose(0, 2, 1).reshape(-1, shape[1]),
        "other": other.transpose(0, 2, 1).reshape(-1, shape[1]),
    }
    random = np.random.RandomState(0)

    def iqm(values: np.ndarray) -> np.ndarray:
        return np.array([metrics.aggregate_iqm(values)])

    values, intervals = library.get_interval_estimates(matrices, iqm, reps=N_RESAMPLES, random_state=random)
    pair = {"pair": (matrices["run"], matrices["other"])}
    better, better_interval = library.get_interval_estimates(
        pair, metrics.probability_of_improvement, reps=2000, random_state=random
    )
    levels = np.linspace(-2, 4, 13)
    profile, profile_interval = library.create_performance_profile({"run": matrices["run"]}, levels, reps=N_RESAMPLES)
    return {
        "run": run.tolist(),
        "other": other.tolist(),
        "iqm": [float(values["run"][0]), *map(float, intervals["run"][:, 0])],
        "improvement": [float(np.squeeze(better["pair"])), *map(float, np.ravel(better_interval["pair"]))],
        "levels": levels.tolist(),
        "profile": [profile["run"].tolist(), *profile_interval["run"].tolist()],
    }


if __name__ == "__main__":
    content = {name: case(shape) for name, shape in SHAPES.items()}
    Path(__file__).with_name("rliable.json").write_text(json.dumps(content, indent=1) + "\n")
