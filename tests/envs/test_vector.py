"""Does a family play as a vector environment of Gymnasium, in each way of beginning anew?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics

from envs import ENVS
from envs.core import Refusal
from envs.vector import FamilyVectorEnv, make_vector_env
from tests.envs.test_parallel import NEEDED
from tests.representatives import one_per_kind

MODES = list(AutoresetMode)


@pytest.mark.parametrize("name", one_per_kind(ENVS))
def test_what_the_family_shows_is_of_its_spaces(name: str, elsewhere: Path) -> None:
    envs = make_vector_env(name, 3, tells_task=True, **NEEDED.get(name, {}))
    obs, info = envs.reset(seed=0)
    assert obs in envs.observation_space and info["task"].shape == (3,)
    for step in range(8):
        envs.action_space.seed(step)
        obs, reward, terminated, truncated, info = envs.step(envs.action_space.sample())
        assert obs in envs.observation_space
        assert reward.shape == terminated.shape == truncated.shape == info["task"].shape == (3,)
        assert reward.dtype == np.float32 and terminated.dtype == truncated.dtype == np.bool_


class OneRow(gymnasium.Env[Any, Any]):
    """A row of a family by itself, for Gymnasium's own vector environment."""

    def __init__(self, **settings: Any) -> None:
        self.row = make_vector_env("toy-corners", 1, task=1, tells_task=True, **settings)
        self.observation_space, self.action_space = self.row.single_observation_space, self.row.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        obs, info = self.row.reset(seed=seed)
        return obs[0], {"task": int(info["task"][0])}

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, Any]:
        obs, *parts, info = self.row.step(action[None])
        return obs[0], *(part[0] for part in parts), {"task": int(info["task"][0])}


@pytest.mark.parametrize("mode", MODES)
def test_rows_begin_anew_as_those_of_gymnasiums_own_vector_environment(mode: AutoresetMode) -> None:
    """With starts that are all alike, so that both play the same."""
    settings: dict[str, Any] = {"episode_steps": 3, "start_spread": 0.0}
    theirs = SyncVectorEnv([lambda: OneRow(**settings)] * 2, autoreset_mode=mode)
    ours = make_vector_env("toy-corners", 2, task=1, tells_task=True, autoreset_mode=mode, **settings)
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    expected, given = list(theirs.reset(seed=0)), list(ours.reset(seed=0))
    for step in range(9):
        _compare(expected, given)
        if mode == AutoresetMode.DISABLED and step and step % 3 == 0:
            mask = np.ones(2, bool)
            _compare(list(theirs.reset(options={"reset_mask": mask})), list(ours.reset(options={"reset_mask": mask})))
        ours.action_space.seed(step)
        actions = ours.action_space.sample()
        expected, given = list(theirs.step(actions)), list(ours.step(actions))


def _compare(expected: list[Any], given: list[Any]) -> None:
    *theirs, their_info = expected
    *ours, our_info = given
    for theirs_part, ours_part in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(ours_part, theirs_part)
    np.testing.assert_array_equal(our_info["task"], their_info["task"])
    assert our_info.keys() & {"final_obs", "final_info"} == their_info.keys() & {"final_obs", "final_info"}
    if "final_obs" in their_info:
        np.testing.assert_array_equal(np.stack(our_info["final_obs"]), np.stack(their_info["final_obs"]))
        np.testing.assert_array_equal(our_info["final_info"]["task"], their_info["final_info"]["task"])
        for name in ("_final_obs", "_final_info"):
            np.testing.assert_array_equal(our_info[name], their_info[name])


def pettingzoo(num_envs: int, **keywords: Any) -> FamilyVectorEnv:
    factory = "tests.envs.pettingzoo_envs:walk"
    return make_vector_env("pettingzoo", num_envs, factory=factory, train=["max_cycles=2", "max_cycles=3"], **keywords)


def test_rows_end_apart_and_others_go_on() -> None:
    envs = pettingzoo(2, autoreset_mode="SameStep")
    envs.reset(seed=0, options={"task": [0, 1]})
    envs.reset(options={"task": [0, 1], "reset_mask": np.array([True, False])})
    ends, finals = [], []
    for _ in range(6):
        *_, truncated, info = envs.step(np.zeros((2, 2), np.int64))
        ends.append(truncated.tolist())
        finals.append([obs is not None for obs in info.get("final_obs", [])])
    assert ends[:3] == [[False, False], [True, False], [False, True]]
    assert finals[:3] == [[], [True, False], [False, True]]


def test_a_row_that_ended_has_to_be_begun_anew_where_nobody_does_it() -> None:
    envs = pettingzoo(2, autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=0, options={"task": [0, 1]})
    for _ in range(2):
        *_, truncated, _ = envs.step(np.zeros((2, 2), np.int64))
    with pytest.raises(ValueError, match=r"rows \[0\] have ended"):
        envs.step(np.zeros((2, 2), np.int64))
    envs.reset(options={"reset_mask": truncated})
    assert envs.step(np.zeros((2, 2), np.int64))[3].tolist() == [False, True]


def test_a_seed_gives_tasks_and_episodes_again() -> None:
    envs = make_vector_env("mpe-wind", 4, tells_task=True, episode_steps=3)

    def played(seed: int) -> list[Any]:
        shown: list[Any] = list(envs.reset(seed=seed))
        for step in range(10):
            envs.action_space.seed(step)
            shown += envs.step(envs.action_space.sample())
        return shown

    first, other = played(1), played(2)
    np.testing.assert_equal(played(1), first)
    assert (first[1]["task"] != other[1]["task"]).any() and (first[0] != other[0]).any()
    tasks = np.stack([info["task"] for info in first[1::5] if isinstance(info, dict)])
    assert len(np.unique(tasks)) > 4, "each episode draws a task"


def test_the_reward_is_the_teams_mean_and_actions_reach_their_agents() -> None:
    envs = make_vector_env("toy-arms", 2, task=1)
    envs.reset(seed=0)
    assert envs.step(np.array([[1, 1], [0, 1]]))[1].tolist() == [1.0, 0.5]


def test_a_mask_is_that_of_all_agents_choices() -> None:
    envs = make_vector_env("mpe-simple-speaker-listener", 2)
    _, info = envs.reset(seed=0)
    assert envs.single_action_space == spaces.MultiDiscrete([3, 5])
    np.testing.assert_array_equal(info["action_mask"], np.ones((2, 8), np.int8))


def test_wrappers_of_gymnasium_fit() -> None:
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        wrapped = DictInfoToList(RecordEpisodeStatistics(make_vector_env("toy-arms", 2, task=0, autoreset_mode=mode)))
        wrapped.reset(seed=0)
        *_, infos = wrapped.step(np.array([[0, 0], [0, 1]]))
        assert [info["episode"]["r"] for info in infos] == [1.0, 0.5]


def test_there_is_at_least_one_row() -> None:
    with pytest.raises(Refusal, match="num_envs=0: expected at least 1"):
        make_vector_env("toy-arms", 0)


def test_rivals_have_no_common_player() -> None:
    for name in ("mpe-simple-tag", "mpe-simple-adversary"):
        with pytest.raises(Refusal, match=f"{name}: its agents are rivals"):
            make_vector_env(name, 2, opponents="learning")


def test_a_seed_for_some_rows_is_refused() -> None:
    envs = make_vector_env("toy-arms", 2)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="seed=1 decides what all rows draw"):
        envs.reset(seed=1, options={"reset_mask": np.array([True, False])})
