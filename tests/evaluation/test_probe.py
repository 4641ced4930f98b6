"""Does the probe say what one agent's latent alone knows about the task, and nothing else?"""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
import torch

from mg2l_kalei.evaluation.probe import probe_accuracy, read_probes, task_probabilities

N_TASKS, N_TRIALS = 3, 64


def _noise(*shape: int, seed: int = 0) -> np.ndarray:
    noise: np.ndarray = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return noise


def _separable(dim: int = 8, distance: float = 20.0) -> np.ndarray:
    """(n_tasks, n_trials, dim): unit noise around one corner per task."""
    return _noise(N_TASKS, N_TRIALS, dim) + distance * np.eye(N_TASKS, dim, dtype=np.float32)[:, None]


def test_separable_latents_read_one() -> None:
    assert probe_accuracy(_separable()) == 1.0
    assert probe_accuracy(1e-3 * _separable()) == 1.0, "scale does not matter"


def test_noise_reads_chance() -> None:
    accuracies = [probe_accuracy(_noise(N_TASKS, N_TRIALS, 8, seed=seed)) for seed in range(10)]
    assert np.mean(accuracies) == pytest.approx(1 / N_TASKS, abs=0.06)


@pytest.mark.parametrize("dim", [0, 1, 16])
def test_constant_latents_read_chance_exactly(dim: int) -> None:
    assert probe_accuracy(np.full((N_TASKS, N_TRIALS, dim), 0.3, dtype=np.float32)) == pytest.approx(1 / N_TASKS)


def test_memorised_trials_do_not_count() -> None:
    """With far more features than trials every fitted trial is told apart; the others must still read chance."""
    latents = _noise(N_TASKS, N_TRIALS, 1000)
    seen_twice = latents.copy()
    seen_twice[:, 1::2] = seen_twice[:, ::2]  # now the judged trials are copies of the fitted ones
    assert probe_accuracy(seen_twice) == 1.0, "the probe can memorise"
    assert probe_accuracy(latents) < 0.5


def test_readings_stay_with_their_moment_and_agent() -> None:
    latents = _noise(2, N_TASKS, N_TRIALS, 2, 8)
    latents[1, :, :, 0] = _separable()
    readings = read_probes(latents, (5, 50))
    assert readings.steps == (5, 50)
    assert readings.chance == pytest.approx(1 / 3)
    assert readings.accuracy[1, 0] == 1.0
    assert (readings.accuracy[[0, 0, 1], [0, 1, 1]] < 0.55).all(), "agent 1 gains nothing from what agent 0 knows"


def test_readings_are_deterministic() -> None:
    latents = _noise(1, N_TASKS, N_TRIALS, 2, 8) + 0.3 * np.eye(N_TASKS, 8)[:, None, None]
    first, again = (read_probes(latents, (1,)) for _ in range(2))
    np.testing.assert_array_equal(first.accuracy, again.accuracy)


def test_too_little_to_judge_is_no_error() -> None:
    assert np.isnan(probe_accuracy(_noise(3, 1, 4))), "nothing is left to judge on"
    assert probe_accuracy(_noise(1, 8, 4)) == 1.0, "a single task is always told"


def test_many_tasks_with_few_trials_each_are_read_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 0 <= probe_accuracy(_noise(50, 2, 8)) <= 1


def test_probing_leaves_torchs_threads_alone_and_is_fast() -> None:
    n_threads = torch.get_num_threads()
    start = time.process_time()
    read_probes(_noise(8, N_TASKS, N_TRIALS, 2, 16), tuple(range(8)))
    assert time.process_time() - start < 2.0, "0.3 s when written"
    assert torch.get_num_threads() == n_threads


def test_probabilities_follow_what_the_latent_says() -> None:
    sure = np.stack([_separable(), _noise(N_TASKS, N_TRIALS, 8, seed=1)], axis=2)  # agent 0 knows the task
    unsure = _noise(*sure.shape, seed=2)
    fitted_on = np.stack([unsure, sure])
    trial = np.zeros((5, 2, 8), dtype=np.float32)
    trial[:, :, 1] = np.linspace(0, 20, 5)[:, None]  # towards task 1
    belief = task_probabilities(fitted_on, trial)
    assert belief.shape == (5, 2, N_TASKS)
    np.testing.assert_allclose(belief.sum(axis=-1), 1.0)
    assert belief[0, 0].max() < 0.6 and belief[-1, 0, 1] > 0.9
    assert belief[:, 1].max() < 0.9, "agent 1 stays unsure"
    np.testing.assert_array_equal(task_probabilities(fitted_on[:, :1], trial), np.ones((5, 2, 1)))
