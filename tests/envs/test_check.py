"""Does every check trip on a family that is dishonest in that one way?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from envs.check import check_family, unusual
from envs.core import StepResult, Task
from envs.toy import CornersBatch, Turns, TurnsBatch, TurnsConfig
from tests.envs.dishonest import (
    DriftsWithResets,
    EndsEarly,
    EndsTwice,
    Expanded,
    Family,
    GlobalRandomness,
    LegalThoughContinuous,
    NeverEnds,
    NotFinite,
    NothingToDraw,
    OneStreamForStarts,
    OneStreamForSteps,
    OtherSpec,
    OwnSeed,
    ResetsAll,
    ResetsAllClocks,
    ResetsAllTasks,
    ResetsNone,
    ReusesItsReward,
    RowsMix,
    RowsStartAlike,
    SameTask,
    SharesItsState,
    SharesItsTasks,
    Unclamped,
    WritesIntoActions,
    WrongDtype,
    WrongShape,
)

DISHONEST = {
    GlobalRandomness: "one seed and the same actions differ in",
    SameTask: "differ neither in reward nor in dynamics",
    DriftsWithResets: "something is left over",
    ResetsAll: "reset with `where` changes obs",
    ResetsNone: "does not restart the rows chosen",
    ResetsAllClocks: "rows not chosen go on differently in truncated",
    ResetsAllTasks: "rows not chosen go on differently in reward",
    OneStreamForStarts: "when the first row ends earlier, obs of the other rows changes",
    OneStreamForSteps: "when the first row ends earlier, obs of the other rows changes",
    RowsMix: "of the other rows",
    SharesItsState: "writing into a record",
    SharesItsTasks: "writing into a record, or the tasks",
    ReusesItsReward: "reward of an earlier record changes",
    WritesIntoActions: "writes into the actions",
    NeverEnds: "truncated is [False",
    EndsEarly: "truncated is [False, True, True, True] after [9, 19",
    EndsTwice: "terminated and truncated at once",
    Unclamped: "are not clamped",
    WrongDtype: "reward must be (4, 2) torch.float32 on cpu; it is (4, 2) torch.float64",
    WrongShape: "reward must be (4, 2) torch.float32 on cpu; it is (4,)",
    Expanded: "reward is an expanded view",
    NotFinite: "reward is not finite",
    LegalThoughContinuous: "legal must be None",
    OtherSpec: "the batch's spec is not the family's",
    NothingToDraw: "a scene needs markers",
}


@pytest.mark.parametrize("batch", DISHONEST, ids=lambda batch: batch.__name__)
def test_a_dishonest_batch_is_caught(batch: type[CornersBatch]) -> None:
    problems = check_family(Family(batch))
    assert any(DISHONEST[batch] in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("batch", "remark"),
    [(OwnSeed, "batches with different seeds do not differ"), (RowsStartAlike, "all rows start alike")],
)
def test_what_some_games_are_is_no_breach_and_said(batch: type[CornersBatch], remark: str) -> None:
    assert unusual(Family(batch)) == [remark]
    assert unusual(Family()) == []


def test_tasks_that_random_play_cannot_tell_apart_may_be_declared() -> None:
    class Rare(Family):
        random_play_tells = False

    assert check_family(Rare(SameTask)) == []


TASK = Task("one", {"x": 1}, (0.5,))
BAD_TASKS = {
    "there is no task": (),
    "the same name": (TASK, TASK._replace(features=(1.0,))),
    "train among them": (TASK._replace(split="test"),),
    "splits must be of": (TASK, Task("two", {}, (0.0,), "valid")),
    "training tasks must come first": (TASK._replace(split="test"), TASK._replace(name="two", features=(1.0,))),
    "not plain finite numbers": (TASK._replace(params={"x": torch.zeros(1)}),),
    "features must have one width": (TASK, Task("two", {}, (0.0, 1.0))),
    "features are not finite": (TASK._replace(features=(float("nan"),)),),
    "must stay in [-1, 1]; they reach 3": (TASK, Task("two", {}, (3.0,), "test")),
    "the oracle cannot tell them apart": (TASK, TASK._replace(name="two")),
}


@pytest.mark.parametrize("problem", BAD_TASKS)
def test_bad_tasks_are_caught(problem: str) -> None:
    family = Family()
    family.tasks = BAD_TASKS[problem]
    assert any(problem in found for found in check_family(family))


def test_only_tasks_outside_the_range_may_have_features_outside_of_it() -> None:
    family = Family()
    family.tasks = (*family.tasks[:3], family.tasks[3]._replace(features=(2.0, 2.0), split="ood"))
    assert not any("features" in problem for problem in check_family(family))


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"obs_sizes": (4,)}, "spec.obs_sizes must be empty or have n_agents = 2 entries"),
        ({"obs_sizes": (4, 9)}, "spec.obs_sizes must lie in 1 to 4"),
        ({"action_sizes": (2, 0)}, "spec.action_sizes must lie in 1 to 2"),
        ({"agent_types": (0, 0, 1)}, "spec.agent_types must be empty"),
        ({"type_columns": (0, 4)}, "spec.type_columns must be columns of obs, 0 to 3"),
        ({"type_columns": (0, 1)}, "obs of a living agent is not one-hot in spec.type_columns"),
        ({"type_columns": (0, 1), "agent_types": (0, 1)}, "types are drawn for each episode: no agent_types then"),
        ({"obs_sizes": (4, 3)}, "obs of agent 1 is not zero beyond its true size 3"),
        ({"shared_reward": True}, "reward is the team's by spec.shared_reward, but agents are paid [-"),
    ],
)
def test_facts_that_do_not_fit_are_caught(facts: dict[str, Any], problem: str) -> None:
    family = Family()
    family.spec = family.spec._replace(**facts)
    assert any(problem in found for found in check_family(family))


class EndsByItself(CornersBatch):
    def step(self, action: Tensor) -> StepResult:
        return super().step(action)._replace(terminated=self.now.elapsed == 2)


def test_episodes_that_end_before_their_time_are_caught_where_they_are_said_not_to() -> None:
    family = Family(EndsByItself)
    said = "episodes end on time by spec.ends_on_time, but rows have ended after [2, 2, 2, 2] steps"
    assert said in "\n".join(check_family(family))
    family.spec = family.spec._replace(ends_on_time=False)
    assert said not in "\n".join(check_family(family))


class NoLegalAction(TurnsBatch):
    def step(self, action: Tensor) -> StepResult:
        result = super().step(action)
        assert result.legal is not None
        return result._replace(legal=torch.zeros_like(result.legal))


@pytest.mark.parametrize(
    ("batch", "action_sizes", "problem"),
    [
        (NoLegalAction, (), "leaves a living agent without any action"),
        (TurnsBatch, (4, 3), "lets agent 1 act beyond its 3 actions"),
    ],
)
def test_senseless_legal_actions_are_caught(
    batch: type[TurnsBatch], action_sizes: tuple[int, ...], problem: str
) -> None:
    class Dishonest(Turns):
        def make(self, n_rows: int, device: torch.device, generator: torch.Generator) -> TurnsBatch:
            return batch(self, n_rows, device, generator)

    family = Dishonest("dishonest", TurnsConfig(), np.random.default_rng(0))
    family.spec = family.spec._replace(action_sizes=action_sizes)
    assert any(problem in found for found in check_family(family))
