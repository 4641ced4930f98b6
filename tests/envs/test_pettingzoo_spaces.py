"""Are spaces turned into arrays as they should be, and keywords into tasks?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from envs.pettingzoo.keywords import read_keywords, read_tasks
from envs.pettingzoo.layout import layout_of
from tests.envs.pettingzoo_envs import BOX, Spaces

MASKED = spaces.Dict({"observation": spaces.Discrete(2), "action_mask": spaces.MultiBinary(3)})
BESIDE = spaces.Dict({"obs": BOX, "action_mask": spaces.Box(0, 1, (3,), np.int8), "turn": spaces.Discrete(2)})


@pytest.mark.parametrize(
    ("space", "seen", "vector"),
    [
        (spaces.Box(0, 255, (2, 2), np.uint8), np.array([[1, 2], [3, 255]], np.uint8), [1, 2, 3, 255]),
        (spaces.Discrete(3, start=5), 6, [0, 1, 0]),
        (spaces.MultiBinary(3), np.array([1, 0, 1], np.int8), [1, 0, 1]),
        (spaces.MultiDiscrete([2, 3]), np.array([1, 0]), [0, 1, 1, 0, 0]),
        (spaces.Tuple((BOX, spaces.Discrete(2))), (np.array([0.5, -2], np.float32), 1), [0.5, -2, 0, 1]),
        (spaces.Dict({"a": BOX, "b": spaces.Discrete(2)}), {"b": 0, "a": np.ones(2, np.float32)}, [1, 1, 1, 0]),
        (MASKED, {"observation": 1, "action_mask": np.ones(3, np.int8)}, [0, 1]),
        (BESIDE, {"turn": 1, "obs": np.full(2, 7.0), "action_mask": np.ones(3, np.int8)}, [7, 7, 0, 1]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_observations_are_flattened(space: spaces.Space[Any], seen: Any, vector: list[float]) -> None:
    (seat,) = layout_of(Spaces(space, spaces.Discrete(3))).seats
    flat = seat.observe(seen)
    assert flat.tolist() == vector and flat.dtype == np.float32 and seat.obs_size == len(vector)


@pytest.mark.parametrize(
    ("sees", "acts", "problem"),
    [
        (spaces.Text(3), spaces.Discrete(2), "it observes Text"),
        (spaces.Tuple((BOX, spaces.Sequence(BOX))), spaces.Discrete(2), "it observes Tuple"),
        (spaces.Box(0, 1, (0,)), spaces.Discrete(2), "it observes Box"),
        (BOX, spaces.MultiDiscrete([2, 2]), "it acts in MultiDiscrete"),
        (BOX, BOX, "it acts in Box"),  # without bounds
        (BOX, spaces.Box(0, 1, (2, 2)), "it acts in Box"),
        (BOX, spaces.Box(0, 9, (2,), np.int64), "it acts in Box"),
        (BOX, spaces.Box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (2,)), "it acts in Box.* below 1e"),
        (BOX, spaces.Box(-60_000, 60_000, (2,), np.float16), "it acts in Box"),  # 120,000 is none of its numbers
        (spaces.Dict({"action_mask": BOX}), spaces.Discrete(2), r"it observes Dict\(\)"),
        (MASKED, spaces.Discrete(2), r"it observes an action_mask of MultiBinary\(3\): it must have 2 entries"),
        (MASKED, spaces.Box(0, 1, (3,)), "it observes an action_mask, and acts in Box.*: only Discrete actions"),
        (spaces.Dict({"a": MASKED}), spaces.Discrete(3), "an action_mask must stand beside the rest, not within"),
    ],
)
def test_other_spaces_are_refused_by_agent_and_name(
    sees: spaces.Space[Any], acts: spaces.Space[Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        layout_of(Spaces(sees, acts))


@pytest.mark.parametrize(
    ("space", "seen", "problem"),
    [
        (spaces.Discrete(3, start=5), 4, "it observed 4, where"),  # as an index it would be another observation
        (spaces.MultiDiscrete([2, 3]), [1], r"it observed \[1\], where"),
        (spaces.Tuple((BOX, BOX)), (np.ones(3), np.ones(1)), "it observed 3 numbers, where its space is Box"),
        (spaces.Dict({"a": BOX}), {"b": np.ones(2)}, "it observed {'b': .*}, where its space is Dict"),
    ],
)
def test_an_observation_of_another_form_is_refused(space: spaces.Space[Any], seen: Any, problem: str) -> None:
    (seat,) = layout_of(Spaces(space, spaces.Discrete(3))).seats
    with pytest.raises(ValueError, match=f"^{problem}"):
        seat.observe(seen)


def test_a_mask_in_the_observation_says_what_is_legal_and_one_that_allows_nothing_is_refused() -> None:
    (seat,) = layout_of(Spaces(MASKED, spaces.Discrete(3))).seats
    assert np.asarray(seat.legal({"observation": 0, "action_mask": [1, 0, 1]}, {})).tolist() == [True, False, True]
    with pytest.raises(ValueError, match="the action mask of it allows nothing"):
        seat.legal({"observation": 0, "action_mask": [0, 0, 0]}, {})
    assert not np.any(seat.legal({"observation": 0, "action_mask": [0, 0, 0]}, {}, must_act=False))


# --- keywords ---------------------------------------------------------------------------------------------------------


def test_keywords_are_read_as_yaml_has_them() -> None:
    text = "N=2 rate=1e-3 name=big team sizes=[1, 2] is_on=true none=null"
    expected = {"N": 2, "rate": 1e-3, "name": "big team", "sizes": [1, 2], "is_on": True, "none": None}
    assert read_keywords(text) == expected and read_keywords(" ") == {}


@pytest.mark.parametrize(
    "text", ["N", "N=", "=2", "N=2 N=3", "N=[1", "N=.nan", "2N=1", "N=2000-01-01: a", "N=#1", "N=1 #2", "N=1\nM: 2"]
)
def test_what_is_no_keyword_set_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="'"):
        read_keywords(text)


@pytest.mark.parametrize(
    ("splits", "features"),
    [
        ({"train": ["a=5"]}, [[1.0]]),
        ({"train": ["a=0 b=x", "a=4 b=x"], "test": ["a=1 b=x"], "ood": ["a=6 b=x"]}, [[-1.0], [1.0], [-0.5], [2.0]]),
        ({"train": ["a=0 b=2", "a=1 b=2"], "ood": ["a=0 b=5"]}, [[-1.0, -1.0], [1.0, -1.0], [-1.0, 5.0]]),
        ({"train": ["a=x", "a=y"]}, [[1.0, 0.0], [0.0, 1.0]]),
        ({"train": ["a=1", "b=1"]}, [[1.0, 0.0], [0.0, 1.0]]),
    ],
)
def test_the_oracle_is_told_the_numbers_that_differ_or_which_task_it_is(
    splits: dict[str, list[str]], features: list[list[float]]
) -> None:
    tasks = read_tasks(splits)
    assert [list(task.features) for task in tasks] == features
    assert [task.split for task in tasks] == [split for split, texts in splits.items() for _ in texts]
