"""Does the continuous model learn what is known of a world, and is what it imagines what its network says?"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from mg2l_kalei.buffers.windows import Moments, draw_moments
from mg2l_kalei.types import Clock, Metrics
from mg2l_kalei.world_models.base import starts_at, task_latents
from mg2l_kalei.world_models.continuous import ContinuousModel
from mg2l_kalei.world_models.imagined import ImaginedRows
from mg2l_kalei.world_models.scores import open_loop_scores
from mg2l_kalei.world_models.team_network import Predicted, Seen
from tests.small_systems import generator
from tests.world_models import swirl

MOMENTS = Moments(torch.tensor([3, 8, 8]), torch.tensor([0, 4, 17]))


def trained(n_updates: int, **settings: Any) -> ContinuousModel:
    model = swirl.small_model(**settings)
    learn(model, n_updates)
    return model


def learn(model: ContinuousModel, n_updates: int, seed: int = 1) -> Metrics:
    replay = swirl.replayed()
    return model.learn(replay, swirl.oracle(), Clock(0, 0), n_updates=n_updates, generator=generator(seed))


def scores_of(model: ContinuousModel) -> dict[str, float]:
    replay, slots = swirl.replayed(128), torch.arange(128)
    trials = (slots[:64], slots[64:])
    found = open_loop_scores(model, replay, trials, swirl.oracle(), generator(2))
    return {name.removeprefix("world_model/"): float(value) for name, value in found.items()}


@pytest.fixture(scope="module")
def model() -> ContinuousModel:
    return trained(400, members=2)


def test_it_learns_what_neither_copying_nor_a_linear_fit_tells(model: ContinuousModel) -> None:
    scores = scores_of(model)
    for k in (1, 5, 15):
        assert scores[f"error_{k}"] < 0.5 * scores[f"copy_error_{k}"]
        assert scores[f"error_{k}"] < 0.7 * scores[f"linear_error_{k}"]
    assert scores["reward_r2_1"] > 0.9 > scores["linear_reward_r2_1"]


def test_what_is_imagined_is_near_the_known_transition(model: ContinuousModel) -> None:
    replay, action = swirl.replayed(), 2 * torch.rand(3, 2, 1, generator=generator(5)) - 1
    starts = starts_at(replay, MOMENTS, 0)
    env = model.imagine(starts, swirl.TURNS[starts.task], generator())
    env.reset(starts.task)
    result = env.step(action)
    expected = swirl.next_obs(starts.seen.obs, action, starts.task)
    assert (result.obs - expected).abs().mean() < 0.1
    assert env.spread is not None and env.spread.shape == (3,)


def test_disagreement_grows_with_the_steps_and_tells_where_it_errs(model: ContinuousModel) -> None:
    scores = scores_of(model)
    assert 0 < scores["spread_1"] < scores["spread_15"] and scores["spread_correlation_5"] > 0.3


def test_it_is_told_the_task(model: ContinuousModel) -> None:
    """Another latent, another turn: the mean observation that both tasks would share is not what is imagined."""
    starts, turned = starts_at(swirl.replayed(), MOMENTS, 0), []
    for task in (0, 1):
        env = model.imagine(starts, swirl.TURNS[task].expand(3, 1), generator())
        env.reset(starts.task)
        turned.append(env.step(torch.zeros(3, 2, 1)).obs)
    assert (turned[1] - turned[0]).norm(dim=-1).mean() > 0.5  # of 2 sin 0.4 = 0.78


# --- rows, by a network that knows ------------------------------------------------------------------------------------


class Knowing(torch.nn.Module):
    """Predicts the known transition; the task ends as it is told."""

    n_members, n_actions = 1, 0

    def __init__(self, goes_on: float = 9.0) -> None:
        super().__init__()
        self.goes_on = goes_on

    def forward(self, seen: Seen) -> Predicted:
        task = (seen.latent[0, :, 0] > 0).long()
        after = swirl.next_obs(seen.obs[-1, 0], seen.action[-1, 0], task)[None]
        logits = torch.full(seen.alive.shape[1:], 9.0)
        return Predicted(after, after[..., 1], torch.full(logits.shape[:2], self.goes_on), logits, logits[..., None])

    def bounded(self, obs: torch.Tensor) -> torch.Tensor:
        return obs


def rows(network: Any, *, horizon: int = 3, ends_on_time: bool = True, burn_in: int = 2) -> ImaginedRows:
    starts = starts_at(swirl.replayed(), MOMENTS, burn_in)
    spec = swirl.SPEC._replace(ends_on_time=ends_on_time)
    return ImaginedRows(network, starts, swirl.TURNS[starts.task], generator(), spec, horizon=horizon, max_spread=0.0)


def test_rows_begin_in_replayed_states_and_follow_the_known_transition() -> None:
    steps, task = swirl.trials(64, 20)
    env = rows(Knowing())
    obs = env.reset(task[MOMENTS.trial]).obs
    assert torch.equal(obs, steps.obs[MOMENTS.step, MOMENTS.trial])
    for _ in range(3):
        action = 2 * torch.rand(3, 2, 1, generator=generator(5)) - 1
        expected = swirl.next_obs(obs, action, task[MOMENTS.trial])
        result = env.step(action)
        assert torch.equal(result.obs, expected) and torch.equal(result.state, result.obs.flatten(-2))
        assert torch.equal(result.reward, expected[..., 1]) and result.alive.all()
        obs = result.obs


def test_horizons_end_as_truncations() -> None:
    env = rows(Knowing(), horizon=2)
    env.reset(torch.zeros(3, dtype=torch.int64))
    results = [env.step(torch.zeros(3, 2, 1)) for _ in range(2)]
    assert [bool(result.truncated.all()) for result in results] == [False, True]
    assert not any(result.terminated.any() for result in results) and env.spec.episode_steps == 2


def test_ends_are_drawn_from_the_predicted_continuation_and_never_where_tasks_cannot_end() -> None:
    always, never = (rows(Knowing(goes_on), ends_on_time=False) for goes_on in (-9.0, 9.0))
    on_time = rows(Knowing(-9.0))
    for env, ends in ((always, True), (never, False), (on_time, False)):
        env.reset(torch.zeros(3, dtype=torch.int64))
        result = env.step(torch.zeros(3, 2, 1))
        assert result.terminated.tolist() == [ends] * 3 and not result.truncated.any()


def test_some_rows_go_back_to_their_starts() -> None:
    env, where = rows(Knowing()), torch.tensor([False, True, False])
    start = env.reset(torch.zeros(3, dtype=torch.int64)).obs
    moved = env.step(torch.ones(3, 2, 1)).obs
    again = env.reset(torch.zeros(3, dtype=torch.int64), where).obs
    assert torch.equal(again, torch.where(where[:, None, None], start, moved))
    assert env.now.elapsed.tolist() == [1, 0, 1]


def test_disagreement_cuts_imagination_short() -> None:
    model = trained(3, members=2, max_spread=1e-6)
    starts = starts_at(swirl.replayed(), MOMENTS, 0)
    env = model.imagine(starts, swirl.TURNS[starts.task], generator())
    env.reset(starts.task)
    assert env.step(torch.zeros(3, 2, 1)).truncated.all() and not env.spec.ends_on_time


# --- state ------------------------------------------------------------------------------------------------------------


def test_a_restored_model_learns_on_as_the_saved_one_bit_for_bit() -> None:
    saved, restored = trained(3), swirl.small_model(seed=7)
    restored.load_weights(saved.weights())
    restored.load_state_dict(copy.deepcopy(saved.state_dict()))
    assert learn(saved, 2, seed=3) == learn(restored, 2, seed=3)
    assert all(torch.equal(x, restored.network.state_dict()[name]) for name, x in saved.network.state_dict().items())


def test_statistics_take_in_each_trial_once() -> None:
    model, replay = swirl.small_model(), swirl.replayed()
    for _ in range(2):
        model.learn(replay, swirl.oracle(), Clock(0, 0), n_updates=0, generator=generator())
    assert float(model.network.obs.count[0]) == 64 * 20 * 2  # trials, steps, agents


def test_task_latents_are_what_the_encoder_says_of_whole_trials() -> None:
    replay, trial = swirl.replayed(), torch.tensor([0, 3, 5])
    assert torch.equal(task_latents(replay, trial, swirl.oracle()), swirl.TURNS[replay.task[trial]])


def test_moments_of_held_trials_alone_are_learned_from() -> None:
    """Slots that were never filled hold whatever memory held."""
    replay = swirl.replayed()
    drawn = draw_moments(torch.arange(len(replay)), replay.n_steps, 500, generator())
    assert drawn.trial.max() < len(replay) < replay.capacity


def test_what_members_say_of_those_who_have_gone_is_no_doubt(model: ContinuousModel) -> None:
    env = ImaginedRows.__new__(ImaginedRows)
    env.network = model.network
    said = torch.zeros(3, 2, 2, swirl.SPEC.obs_dim)  # of three members, in two rows
    said[1, :, 1] = 5.0
    alive = torch.tensor([[True, True], [True, False]])
    doubt = env._disagreement(said, alive)
    assert doubt[0] > 0 and doubt[1] == 0


def test_an_entry_that_never_varies_is_no_reason_for_less_doubt(model: ContinuousModel) -> None:
    network, width = copy.deepcopy(model.network), swirl.SPEC.obs_dim
    env = ImaginedRows.__new__(ImaginedRows)
    env.network = network
    said, alive = torch.zeros(3, 2, 2, width), torch.ones(2, 2, dtype=torch.bool)
    said[1, ..., 0] = 5.0
    before = env._disagreement(said, alive)
    network.obs.var[1:] = 0.0
    torch.testing.assert_close(env._disagreement(said, alive), before * width)
