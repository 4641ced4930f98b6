"""Do stretches of replayed trials hold what was lived around a moment, and know where its episode ends?"""

from __future__ import annotations

import torch

from mg2l_kalei.buffers.windows import Moments, draw_moments, histories, joint_state, window
from tests.small_systems import generator
from tests.world_models.swirl import replayed, trials

TRIALS, _ = trials(3, 40)  # of two episodes
REPLAY = replayed(3, 40)


def test_a_window_holds_the_steps_around_its_moment() -> None:
    steps, is_known = window(REPLAY, Moments(torch.tensor([2, 0]), torch.tensor([5, 30])), before=2, after=3)
    for row, (trial, step) in enumerate([(2, 5), (0, 30)]):
        assert torch.equal(steps.obs[:, row], TRIALS.obs[step - 2 : step + 3, trial])
        assert torch.equal(steps.reward[:, row], TRIALS.reward[step - 2 : step + 3, trial])
    assert is_known.all() and torch.equal(steps.state, steps.obs.flatten(-2))


def test_only_the_moments_own_episode_is_known() -> None:
    moments = Moments(torch.zeros(6, dtype=torch.int64), torch.tensor([0, 1, 19, 20, 21, 39]))
    _, is_known = window(REPLAY, moments, before=2, after=2)
    expected = [[0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 0], [0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 0]]
    assert is_known.T.int().tolist() == expected


def test_a_history_is_all_that_was_lived_before() -> None:
    steps, is_known = histories(REPLAY, Moments(torch.tensor([1, 2, 0]), torch.tensor([25, 3, 0])))
    assert is_known.sum(0).tolist() == [25, 3, 0]
    assert torch.equal(steps.obs[:, 0], TRIALS.obs[:25, 1]) and torch.equal(steps.obs[-3:, 1], TRIALS.obs[:3, 2])
    assert torch.equal(steps.alive, is_known.unsqueeze(-1).expand_as(steps.alive))


def test_moments_are_of_all_steps_of_the_trials_asked_for() -> None:
    trial, step = draw_moments(torch.tensor([0, 2]), 40, 2000, generator())
    assert trial.unique().tolist() == [0, 2] and step.unique().tolist() == list(range(40))


def test_the_joint_state_has_nothing_of_who_has_left() -> None:
    obs, alive = torch.arange(12.0).view(2, 3, 2) + 1, torch.tensor([[True, False, True], [False, True, True]])
    assert joint_state(obs, alive).tolist() == [[1, 2, 0, 0, 5, 6], [0, 0, 9, 10, 11, 12]]
