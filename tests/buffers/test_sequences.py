"""Are whole trials drawn as they were lived, and none of them twice?"""

from __future__ import annotations

import pytest
import torch

from envs.core import EnvSpec
from mg2l_kalei.buffers.sequences import draw_trials, whole_trials
from mg2l_kalei.types import Step
from tests.buffers.test_trials import fill, make_replay, whole_steps
from tests.small_systems import SPECS, generator


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_trial_that_is_drawn_is_what_it_was(spec: EnvSpec) -> None:
    replay, steps = make_replay(spec), whole_steps(spec, 6)
    replay.add(steps, torch.arange(6) % 3)
    trial = torch.tensor([4, 0, 5])
    drawn, task = whole_trials(replay, trial)
    assert task.tolist() == [1, 0, 2]
    for name in Step._fields:
        expected, found = getattr(steps, name), getattr(drawn, name)
        assert (found is None) == (expected is None), name
        assert expected is None or torch.equal(found, expected[:, trial]), name


def test_all_trials_that_are_held_are_drawn_alike_and_none_twice() -> None:
    replay = make_replay(capacity=8)
    fill(replay, 5)
    times = torch.zeros(8)
    for seed in range(200):
        drawn = draw_trials(replay, 3, generator(seed))
        assert len(drawn.unique()) == 3
        times[drawn] += 1
    assert (times[5:] == 0).all() and (times[:5] - 120).abs().max() < 30
    assert sorted(draw_trials(replay, 5, generator()).tolist()) == [0, 1, 2, 3, 4]
