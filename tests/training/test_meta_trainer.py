"""Are returns of training counted in whole episodes, and is every second of an iteration counted once?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from envs.core import EnvBatch
from mg2l_kalei.training.assessment import assess
from mg2l_kalei.training.phases import mean_episode_return
from mg2l_kalei.training.stopwatch import Stopwatch
from mg2l_kalei.types import ActionSample, Clock, Rollout
from tests.small_systems import random_rollout, with_steps
from tests.training.trainers import make_trainer, tiny

NOWHERE = Path("nothing is bad")


def rollout_of(rewards: list[float], truncated: list[int]) -> Rollout:
    """One row whose team is paid ``rewards``; episodes end after the steps in ``truncated``."""
    rollout = random_rollout(n_steps=len(rewards), n_rows=1)
    reward = torch.tensor(rewards)[:, None, None].expand_as(rollout.steps.reward)
    ends = torch.zeros_like(rollout.steps.truncated)
    ends[truncated] = True
    return with_steps(rollout, reward=reward, truncated=ends)


@pytest.mark.parametrize(
    ("truncated", "expected"),
    [([1, 3], (1 + 2 + 4 + 8) / 2), ([1], 1 + 2), ([4], 31.0), ([], 31.0)],
    ids=["cut-off", "mostly-cut-off", "whole", "none-whole"],
)
def test_episodes_that_the_trial_cut_off_do_not_count_beside_whole_ones(truncated: list[int], expected: float) -> None:
    mean: Tensor = mean_episode_return(rollout_of([1.0, 2.0, 4.0, 8.0, 16.0], truncated))
    assert float(mean) == expected


def test_a_task_that_ends_ends_an_episode_as_time_does() -> None:
    rollout = rollout_of([1.0, 2.0, 4.0], [])
    ended = with_steps(rollout, terminated=torch.tensor([[False], [True], [False]]))
    assert float(mean_episode_return(ended)) == 3


def test_the_best_checkpoint_is_chosen_on_other_episodes_than_those_reported() -> None:
    system = make_trainer(tiny()).system
    chosen, reported, again = (
        assess(system, 0, "train", n_episodes=1, n_trials=4, actions="mode", bad_batch=NOWHERE, purpose=purpose).returns
        for purpose in ("selection", "report", "report")
    )
    assert (reported == again).all() and not (chosen == reported).any()


@pytest.mark.parametrize("actions", ["mode", "sampled"])
def test_evaluation_plays_the_actions_that_it_is_told_to(actions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    system = make_trainer(tiny()).system
    act, told = system.learner.act, set()

    def watched(*given: Any, explore: Clock | None) -> ActionSample:
        told.add(explore is not None)
        return act(*given, explore=explore)

    monkeypatch.setattr(system.learner, "act", watched)
    result = assess(system, 0, "train", n_episodes=1, n_trials=2, actions=actions, bad_batch=NOWHERE)
    assert told == {actions == "sampled"} and result.actions == actions


def test_a_team_that_is_judged_draws_from_no_generator_that_rows_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    system = make_trainer(tiny()).system
    act, make = system.learner.act, system.family.make
    of_team, of_rows = set(), set()

    def watched(*given: Any, explore: Clock | None) -> ActionSample:
        of_team.add(id(given[4]))
        return act(*given, explore=explore)

    def made(*given: Any) -> EnvBatch:
        of_rows.add(id(given[2]))
        return make(*given)

    monkeypatch.setattr(system.learner, "act", watched)
    monkeypatch.setattr(system.family, "make", made)
    assess(system, 0, "train", n_episodes=1, n_trials=2, actions="sampled", bad_batch=NOWHERE)
    assert of_team and of_rows and not of_team & of_rows


def test_every_second_counts_for_one_share_at_most() -> None:
    metrics = make_trainer(tiny()).iterate()
    shares = {name: float(value) for name, value in metrics.items() if name.endswith("_share")}
    assert set(shares) == {f"time/{name}_share" for name in ("environment", "acting", "inference", "update")}
    assert min(shares.values()) > 0 and sum(shares.values()) <= 1


def test_random_numbers_of_another_kind_of_device_are_refused_with_a_way_out() -> None:
    state = make_trainer(tiny()).state_dict()
    state["training"]["generators"]["env"] = torch.zeros(16, dtype=torch.uint8)  # as a GPU's are
    with pytest.raises(ValueError, match=r"not begun on cpu.*resume=never"):
        make_trainer(tiny()).load_state_dict(state, [])


def test_a_blocks_time_is_taken_off_the_block_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.0, 3.0, 7.0, 20.0, 21.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    stopwatch = Stopwatch(torch.device("cpu"))
    with stopwatch("acting"), stopwatch("environment"):
        pass
    with stopwatch("acting"):
        pass
    stopwatch.wait()
    assert stopwatch.seconds == {"environment": 2.0, "acting": 5.0 + 1.0}


class QueueMark:
    """An event of a GPU whose queue gets on by a second at each mark, and is read when it has been waited for."""

    made = 0
    is_done = False

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing

    def record(self, stream: object) -> None:
        QueueMark.made += 1
        self.at = QueueMark.made

    def elapsed_time(self, end: QueueMark) -> float:
        assert QueueMark.is_done, "read before it was waited for"
        return 1000.0 * (end.at - self.at)


def test_a_gpu_is_timed_by_marks_in_its_queue_and_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", QueueMark)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: setattr(QueueMark, "is_done", True))
    stopwatch = Stopwatch(torch.device("cuda"))
    with stopwatch("acting"):
        with stopwatch("environment"):
            pass
        with stopwatch("inference"):
            pass
    assert not stopwatch.seconds and not QueueMark.is_done
    stopwatch.wait()
    assert stopwatch.seconds == {"environment": 1.0, "inference": 1.0, "acting": 3.0}
