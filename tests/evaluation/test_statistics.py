"""Are aggregates, intervals and scores what they claim to be?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import trim_mean

from mg2l_kalei.evaluation.statistics import (
    adaptation_score,
    aggregate,
    bootstrap,
    estimate,
    interquartile_mean,
)


def _generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_iqm_by_hand() -> None:
    assert interquartile_mean(np.array([100.0, 1, 2, 3, 4, 5, 6, -100])) == 3.5  # of 2, 3, 4, 5
    assert interquartile_mean(np.array([7.0, 1.0])) == 4.0  # too few to leave any out


@pytest.mark.parametrize("n", [1, 3, 4, 5, 11, 64, 97])
def test_iqm_equals_scipys_trimmed_mean(n: int) -> None:
    values = _generator(n).standard_cauchy((3, n))
    np.testing.assert_allclose(interquartile_mean(values), trim_mean(values, 0.25, axis=1))


def test_iqm_refuses_unfinished_episodes() -> None:
    with pytest.raises(ValueError, match="not finished"):
        interquartile_mean(np.array([1.0, np.nan, 2.0]))


def test_aggregate_pools_seeds_tasks_and_trials_at_each_k() -> None:
    returns = _generator().normal(size=(2, 3, 8, 4))
    np.testing.assert_allclose(aggregate(returns), trim_mean(returns.reshape(48, 4), 0.25, axis=0))


def test_the_interval_covers_the_truth_about_as_often_as_it_claims() -> None:
    """Normal returns: the IQM's true value is the mean. 95 % claimed; between 88 % and 99.5 % of 200 accepted."""
    noise = _generator(1)
    covered = 0
    for _ in range(200):
        at = estimate(noise.normal(5.0, 2.0, size=(1, 3, 20, 1)), noise, n_resamples=200)
        covered += bool(at.low[0] <= 5.0 <= at.high[0])
    assert 176 <= covered <= 199


def test_noise_between_seeds_widens_the_interval_and_noise_between_tasks_does_not() -> None:
    noise = _generator(2)
    trials = noise.normal(size=(5, 4, 16, 1))
    between_seeds = trials + 10 * noise.normal(size=(5, 1, 1, 1))
    between_tasks = trials + 10 * np.arange(4).reshape(1, 4, 1, 1)
    width = {}
    for name, returns in {"trials": trials, "seeds": between_seeds, "tasks": between_tasks}.items():
        at = estimate(returns, _generator(3), n_resamples=500)
        width[name] = float(at.high[0] - at.low[0])
    assert width["seeds"] > 8 * width["trials"]
    assert width["tasks"] < 3 * width["trials"]


def test_seeds_are_resampled_jointly_for_all_tasks() -> None:
    """A seed that is good on one task and bad on another, in equal measure: no resample may pick only its good side."""
    returns = np.zeros((2, 2, 4, 1))
    returns[0, 0], returns[0, 1] = 10, -10
    assert np.abs(bootstrap(returns, _generator(), n_resamples=300)).max() == 0.0


def test_the_bootstrap_draws_from_the_generator_passed_alone() -> None:
    returns = _generator().normal(size=(2, 3, 8, 2))
    first, again = (bootstrap(returns, _generator(4), n_resamples=20) for _ in range(2))
    other = bootstrap(returns, _generator(5), n_resamples=20)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def _around(levels: list[float], scale: float = 0.1, seed: int = 0) -> np.ndarray:
    return np.array(levels) + scale * _generator(seed).normal(size=(1, 3, 32, len(levels)))


def test_score_by_hand() -> None:
    run, none, oracle = (np.full((1, 2, 4, 1), value) for value in (-80.0, -110.0, -60.0))
    score = adaptation_score(run, none, oracle, _generator(), n_resamples=50)
    assert score.gap.value[0] == 50.0
    assert [part[0] for part in score.score] == [0.6, 0.6, 0.6]


def test_score_is_zero_at_none_one_at_oracle_and_its_interval_covers_it() -> None:
    none, oracle = _around([-100.0, -100.0], seed=1), _around([-50.0, -50.0], seed=2)
    score = adaptation_score(_around([-100.0, -50.0], seed=3), none, oracle, _generator(), n_resamples=500)
    np.testing.assert_allclose(score.score.value, [0, 1], atol=0.01)
    assert (score.score.low <= score.score.value).all() and (score.score.value <= score.score.high).all()
    assert (score.score.high - score.score.low < 0.01).all()


@pytest.mark.parametrize("oracle_level", [-100.0, -100.2, -130.0])
def test_no_gap_no_score(oracle_level: float) -> None:
    """Where the oracle is as good as none within noise, or worse, there is no ratio; elsewhere there still is."""
    none, oracle = _around([-100.0, -100.0], 5.0, seed=1), _around([oracle_level, -50.0], 5.0, seed=2)
    score = adaptation_score(_around([-90.0, -75.0], 5.0, seed=3), none, oracle, _generator(), n_resamples=500)
    assert score.has_gap.tolist() == [False, True]
    assert np.isnan([part[0] for part in score.score]).all()
    assert score.score.value[1] == pytest.approx(0.5, abs=0.1)


def test_run_and_references_may_differ_in_seeds_and_trials() -> None:
    run, none, oracle = np.full((5, 2, 8, 1), 1.0), np.full((1, 2, 4, 1), 0.0), np.full((2, 2, 6, 1), 2.0)
    assert adaptation_score(run, none, oracle, _generator(), n_resamples=20).score.value[0] == 0.5
