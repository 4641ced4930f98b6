"""Are returns attributed to the right episode, agent, task and trial, and are held-out tasks really held out?"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from envs.core import EnvSpec, Task, TaskFamily
from mg2l_kalei.evaluation.adaptation import (
    MAX_ROWS,
    episode_returns,
    evaluate,
    latent_steps,
    metrics,
    refuse_overlap,
    rows_at_once,
)
from mg2l_kalei.evaluation.results import AdaptationResult, from_json, to_json
from mg2l_kalei.types import Rollout
from tests.small_systems import with_steps

MakeRollout = Callable[..., Rollout]
MakeFamily = Callable[..., TaskFamily]
MakeResult = Callable[..., AdaptationResult]


def test_returns_sum_over_the_episode_and_average_over_agents(make_rollout: MakeRollout) -> None:
    reward = torch.tensor([[1.0, 3.0], [2.0, 0.0], [10.0, 20.0], [-4.0, 4.0]])[:, None]  # (4, 1, 2)
    ended = torch.tensor([[False], [True], [False], [True]])
    assert episode_returns(make_rollout(reward, ended), 2).tolist() == [[3.0, 15.0]]


def test_early_ends_start_further_episodes_and_only_the_first_count(make_rollout: MakeRollout) -> None:
    reward = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])[:, None, None].expand(6, 2, 3)
    ended = torch.zeros(6, 2, dtype=torch.bool)
    ended[[2, 5], 0] = True  # row 0: two full episodes
    ended[[0, 2, 3, 5], 1] = True  # row 1: ends early each time, and makes four
    assert episode_returns(make_rollout(reward, ended), 2).tolist() == [[7.0, 56.0], [1.0, 6.0]]


def test_an_unfinished_episode_has_no_return(make_rollout: MakeRollout) -> None:
    ended = torch.tensor([[False], [True], [False]])
    returns = episode_returns(make_rollout(torch.ones(3, 1, 1), ended), 3)
    assert returns[0, 0] == 2.0
    assert returns[0, 1:].isnan().all(), "one was begun, one was never begun"


def test_a_time_limit_finishes_an_episode_too(make_rollout: MakeRollout) -> None:
    ended = torch.tensor([[False], [True]])
    rollout = make_rollout(torch.ones(2, 1, 1), ended)
    rollout = with_steps(rollout, terminated=torch.zeros_like(ended), truncated=ended)
    assert episode_returns(rollout, 1).tolist() == [[2.0]]


def test_each_task_and_trial_lands_in_its_own_cell(make_rollout: MakeRollout, make_family: MakeFamily) -> None:
    """Chunks of rows are put together again: the reward says task, the latent says which of the rows it was."""
    family = make_family([Task(f"t{i}", {"goal": i}, (0.0,), "ood" if i % 2 else "train") for i in range(6)])
    n_trials = MAX_ROWS // 2 + 7  # three tasks need two chunks
    played: list[int] = []

    def play(task: Tensor, n_steps: int, sample: bool) -> Rollout:
        reward = task.float()[None, :, None].expand(n_steps, -1, 2) + 100 * sample
        ended = (torch.arange(1, n_steps + 1) % 4 == 0)[:, None].expand(-1, len(task))
        number = torch.arange(len(task)) + sum(played)
        played.append(len(task))
        local = (number + 10_000.0 * torch.arange(n_steps)[:, None])[..., None, None].expand(-1, -1, 2, 1)
        return make_rollout(reward, ended, task=task, local=local)

    result = evaluate(play, family, "ood", 2, n_trials, seed=5, env_steps=77, also_sampled=True)
    assert max(played) <= MAX_ROWS and len(played) == 4, "two chunks for means, two for samples"
    assert result.tasks == ("t1", "t3", "t5")
    np.testing.assert_array_equal(result.returns, np.broadcast_to([[[4.0]], [[12.0]], [[20.0]]], (3, n_trials, 2)))
    assert result.sampled_returns is not None and result.latents is not None
    np.testing.assert_array_equal(result.sampled_returns, result.returns + 400)
    np.testing.assert_array_equal(result.step_reward[:, 0], [1, 3, 5])
    assert result.step_reward.dtype == result.step_reward_error.dtype == np.float32, "or files are twice as long"
    rows = np.arange(3 * n_trials).reshape(3, n_trials)
    for place, step in enumerate(result.probe.steps):  # the latent before step t has seen t transitions
        np.testing.assert_array_equal(result.latents[place, :, :, 1, 0], rows + 10_000 * step)
    assert (result.seed, result.env_steps, result.split_label) == (5, 77, "ood tasks")


@pytest.mark.parametrize(("n_trials", "expected"), [(1, 0.0), (2, 50.0), (5, 158.11388 / 5**0.5)])
def test_the_error_of_rewards_is_a_standard_error(
    n_trials: int, expected: float, make_rollout: MakeRollout, make_family: MakeFamily
) -> None:
    """Of trials that are paid 0, 100, 200, ...; of one alone there is none."""

    def play(task: Tensor, n_steps: int, sample: bool) -> Rollout:
        reward = (100.0 * torch.arange(len(task)))[None, :, None].expand(n_steps, -1, 2)
        ended = (torch.arange(1, n_steps + 1) % 4 == 0)[:, None].expand(-1, len(task))
        return make_rollout(reward, ended, task=task, local=torch.zeros(n_steps, len(task), 2, 1))

    result = evaluate(play, make_family([Task("a", {}, (0.0,))]), "train", 1, n_trials)
    np.testing.assert_allclose(result.step_reward_error, expected, rtol=1e-5)


def test_trials_too_short_for_their_episodes_are_refused(make_rollout: MakeRollout, make_family: MakeFamily) -> None:
    def play_half(task: Tensor, n_steps: int, sample: bool) -> Rollout:
        n_steps //= 2
        ended = (torch.arange(1, n_steps + 1) % 4 == 0)[:, None].expand(-1, len(task))
        return make_rollout(torch.zeros(n_steps, len(task), 2), ended, task=task)

    with pytest.raises(ValueError, match="4 steps did not finish 2 episodes of 4 steps"):
        evaluate(play_half, make_family([Task("a", {}, ())]), "train", 2, 3)


def test_held_out_tasks_that_were_trained_on_are_refused(make_family: MakeFamily) -> None:
    trained = Task("slow", {"mass": 1, "goal": [0.5, 1]}, (0.0,))
    other = Task("other", {"mass": 2, "goal": [0.5, 1]}, (0.0,), "test")
    renamed = Task("new", {"goal": (0.5, 1.0), "mass": 1.0}, (1.0,), "test")
    refuse_overlap(make_family([trained, other]), "test")
    with pytest.raises(ValueError, match=r"1 of the 2 'test' tasks are training tasks.*'new' = 'slow'"):
        refuse_overlap(make_family([trained, other, renamed]), "test")
    with pytest.raises(ValueError, match="are training tasks"):
        evaluate(_never, make_family([trained, other, renamed]), "test", 1, 1)
    refuse_overlap(make_family([trained, other, renamed]), "train")


def _never(task: Tensor, n_steps: int, sample: bool) -> Rollout:
    raise AssertionError("refused before anything is played")


def test_a_split_that_is_not_there_names_those_that_are(make_family: MakeFamily) -> None:
    with pytest.raises(KeyError, match="no split 'test'; it has: train"):
        evaluate(_never, make_family([Task("a", {}, ())]), "test", 1, 1)


def test_finite_families_say_seen_tasks(make_result: MakeResult) -> None:
    assert make_result([0.0])._replace(seen_only=True, split="train").split_label == "seen tasks"


def test_latents_are_kept_early_and_at_episode_ends() -> None:
    assert latent_steps(3, 100) == (1, 5, 10, 25, 50, 100, 200, 299)
    assert latent_steps(1, 1) == (0,)


def test_json_keeps_every_return_bit_for_bit(make_result: MakeResult) -> None:
    result = make_result([0.1, 1e-7, -1e6])
    accuracy = result.probe.accuracy.copy()
    accuracy[0, 0] = np.nan
    result = result._replace(probe=result.probe._replace(accuracy=accuracy))
    text = to_json(result)
    assert np.shape(json.loads(text, parse_constant=_refuse)["returns"]) == (3, 32, 3)
    again = from_json(text)
    for name in ("returns", "sampled_returns", "step_reward", "step_reward_error"):
        before, after = getattr(result, name), getattr(again, name)
        assert after.dtype == before.dtype
        np.testing.assert_array_equal(after, before)
    np.testing.assert_array_equal(again.probe.accuracy, accuracy)
    assert again.latents is None
    plain = {"family", "split", "seen_only", "tasks", "fingerprint", "seed", "env_steps", "episode_steps"}
    assert all(getattr(again, name) == getattr(result, name) for name in plain)
    assert again.probe.steps == result.probe.steps


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def test_another_format_is_refused(make_result: MakeResult) -> None:
    text = to_json(make_result([1.0])).replace('"format": 1', '"format": 99')
    with pytest.raises(ValueError, match="format 99"):
        from_json(text)


def test_metrics_name_split_episode_and_moment(make_result: MakeResult) -> None:
    logged = metrics(make_result([-50.0, -10.0]))
    assert logged["evaluation/test/return_k0"] == pytest.approx(-50, abs=1)
    assert logged["evaluation/test/return_k1"] == pytest.approx(-10, abs=1)
    assert logged["evaluation/test/probe_39"] == 1.0


def test_as_many_trials_are_played_at_once_as_memory_allows() -> None:
    spec = EnvSpec(n_agents=2, obs_dim=10, state_dim=20, action_dim=2, is_discrete=False, episode_steps=100)
    assert rows_at_once(spec, 300) == MAX_ROWS
    images = spec._replace(obs_dim=3 * 84 * 84, state_dim=2 * 3 * 84 * 84)
    assert 1 < rows_at_once(images, 75) < 100
    assert rows_at_once(images, 10**6) == 1
