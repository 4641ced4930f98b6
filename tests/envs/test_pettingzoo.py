"""Is a PettingZoo environment played as it is, and does a family of them keep the contract?"""

from __future__ import annotations

from importlib import metadata
from typing import Any

import numpy as np
import pytest
import torch

from envs.check import check_family
from envs.mpe.simple_spread import SimpleSpread, SimpleSpreadConfig
from envs.pettingzoo import rows as rows_module
from envs.pettingzoo.factory import versions
from envs.pettingzoo.layout import layout_of
from tests.envs.pettingzoo_envs import Walk, endless, walk
from tests.envs.pettingzoo_families import acted, batch, family, random_actions

SPREAD = "mpe2.simple_spread_v3:parallel_env"
TAG = "mpe2.simple_tag_v3:parallel_env"


@pytest.mark.parametrize(
    ("factory", "settings"),
    [
        ("walk", {"train": ("goal=-1", "goal=1"), "test": ("goal=0.5",), "ood": ("goal=2",)}),
        ("walk", {"train": ("goal=1 n_agents=4 leaves=[2,4,3]",)}),
        ("continuous", {"train": ("goal=-1", "goal=1"), "episode_steps": 4}),
        ("walk", {"train": ("max_cycles=3", "max_cycles=6")}),
        ("masked", {}),
        ("mpe2.simple_speaker_listener_v4:parallel_env", {}),
        ("mpe2.simple_speaker_listener_v4:parallel_env", {"train": ("continuous_actions=true",)}),
        ("envs.pettingzoo.foraging:parallel_env", {"train": ("size=5 max_cycles=12", "size=6 max_cycles=12")}),
    ],
)
def test_the_family_is_honest(factory: str, settings: dict[str, Any]) -> None:
    assert check_family(family(factory, **settings)) == []


@pytest.mark.parametrize("is_discrete", [True, False])
def test_simple_spread_is_our_own_one_step_by_step(is_discrete: bool) -> None:
    theirs = batch(SPREAD, 4, train=(f"N=3 continuous_actions={str(not is_discrete).lower()}",))
    obs = theirs.reset(torch.zeros(4, dtype=torch.int64)).obs
    config = SimpleSpreadConfig(is_discrete=is_discrete)
    ours = SimpleSpread("mpe-simple-spread", config, np.random.default_rng(0)).make(
        4, torch.device("cpu"), torch.Generator()
    )
    ours.reset(torch.zeros(4, dtype=torch.int64))
    for action in random_actions(theirs, 25):
        vel, pos = obs[..., :4].split(2, dim=-1)
        landmarks = pos[:, :1] + obs[:, 0, 4:10].view(4, 3, 2)  # relative to agent 0
        ours.now = ours.now._replace(pos=pos, vel=vel, landmarks=landmarks)
        told = action
        if not is_discrete:  # theirs is a thrust to each side in [0, 1], ours the force
            thrust = (action + 1) / 2
            told = torch.stack((thrust[..., 2] - thrust[..., 1], thrust[..., 4] - thrust[..., 3]), dim=-1)
        result, expected = theirs.step(action), ours.step(told)
        torch.testing.assert_close(result.obs, expected.obs, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(result.reward, expected.reward, atol=1e-5, rtol=1e-5)
        obs = result.obs
    assert result.truncated.all() and not result.terminated.any()


def test_other_agents_observations_and_actions_are_padded_and_true_sizes_are_told() -> None:
    tag = family(TAG).spec
    assert (tag.obs_dim, tag.obs_sizes, tag.agent_types) == (16, (16, 16, 16, 14), (0, 0, 0, 3))
    assert tag.state_dim == 62 and tag.episode_steps == 25  # its own state, and its own time limit
    speaking = batch("mpe2.simple_speaker_listener_v4:parallel_env")
    assert (speaking.spec.action_sizes, speaking.spec.agent_types) == ((3, 5), (0, 1))
    legal = speaking.reset(torch.zeros(1, dtype=torch.int64)).legal
    assert legal is not None and legal[0].tolist() == [[True] * 3 + [False] * 2, [True] * 5]


def test_no_row_is_reset_more_often_than_another() -> None:
    """Or environments that remember would play other numbers with another number of workers."""
    rows = batch("counting", 4)
    for n_resets in (1, 2):
        assert (rows.reset(torch.zeros(4, dtype=torch.int64)).obs[:, 0, 0] == n_resets).all()


def test_without_a_state_of_its_own_it_is_what_the_agents_see() -> None:
    rows = batch("walk", 3)
    seen = rows.reset(torch.zeros(3, dtype=torch.int64))
    assert torch.equal(seen.state, seen.obs.flatten(1)) and rows.spec.state_dim == 2 * 4


def test_tasks_with_wider_observations_pad_those_of_others() -> None:
    rows = batch("envs.pettingzoo.foraging:parallel_env", 2, train=("n_foods=1", "n_foods=3"))
    seen = rows.reset(torch.tensor([0, 1]))
    assert rows.spec.obs_dim == 15 and not seen.obs[0, :, 9:].any() and seen.obs[1, :, 9:].any()


# --- ends -------------------------------------------------------------------------------------------------------------


def test_an_agent_that_leaves_is_paid_and_shown_its_last_step_and_nothing_after() -> None:
    steps = acted(batch("walk", train=("n_agents=3 leaves=[2]",)), *[(0, 1, 2)] * 4)
    assert [step.alive[0].tolist() for step in steps] == [[True] * 3] + [[False, True, True]] * 3
    assert [bool(step.reward[0, 0]) for step in steps] == [True, True, False, False]
    assert [bool(step.obs[0, 0].any()) for step in steps] == [True, True, False, False]
    assert all(step.reward[0, 1] and step.obs[0, 1].any() for step in steps)
    assert not any((step.terminated | step.truncated).any() for step in steps)


@pytest.mark.parametrize(
    ("keywords", "limit", "ended_after", "terminated", "alive"),
    [
        ("leaves=[2,3]", 0, 3, True, [False, False]),
        ("leaves=[2,6]", 0, 6, True, [False, False]),  # in the very step in which time runs out
        ("leaves=[2]", 0, 6, False, [False, True]),
        ("max_cycles=4", 5, 4, False, [True, True]),  # its own limit comes first
        ("max_cycles=4", 3, 3, False, [True, True]),  # ours does
    ],
)
def test_a_row_ends_once_all_have_left_or_time_runs_out(
    keywords: str, limit: int, ended_after: int, terminated: bool, alive: list[bool]
) -> None:
    steps = acted(batch("walk", train=(keywords,), episode_steps=limit), *[(1, 1)] * ended_after)
    assert not any((step.terminated | step.truncated).any() for step in steps[:-1])
    assert [steps[-1].terminated.item(), steps[-1].truncated.item()] == [terminated, not terminated]
    assert steps[-1].alive[0].tolist() == alive


# --- what is told and made --------------------------------------------------------------------------------------------


def test_numbers_of_actions_begin_where_the_space_does() -> None:
    (step,) = acted(batch("walk"), (0, 2))
    assert step.obs[0, :, 1].tolist() == [-1, 1]  # Discrete(3, start=-1)


def test_continuous_actions_are_put_on_the_boxs_scale_and_clamped() -> None:
    (step,) = acted(batch("continuous"), ((0.0, -1.0), (5.0, 0.5)))
    assert step.obs[0, :, 1:3].tolist() == [[0.5, -2.0], [1.0, 4.0]]  # [0, 1] and [-2, 6]


def test_masks_say_what_is_legal() -> None:
    (step,) = acted(batch("masked"), (0, 2))
    assert step.legal is not None and step.legal[0].tolist() == [[True, False, True]] * 2


def test_an_environment_is_made_anew_only_for_another_task_and_closed_then(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def counting(factory: str, keywords: dict[str, Any]) -> Any:
        made.append(walk(**keywords))
        return made[-1]

    rows = batch("walk", 2, train=("goal=-1", "goal=1"))
    monkeypatch.setattr(rows_module, "make_env", counting)
    rows.reset(torch.tensor([0, 1]))
    rows.reset(torch.tensor([0, 1]))
    rows.reset(torch.tensor([1, 0]), torch.tensor([False, True]))
    assert [(env.goal, env.is_closed) for env in made] == [(-1, False), (1, True), (-1, False)]
    del rows
    assert all(env.is_closed for env in made)


def test_rows_do_not_share_their_seeds_and_a_batch_draws_all_of_them_from_its_generator() -> None:
    generator = torch.Generator().manual_seed(5)
    rows = family("walk").make(3, torch.device("cpu"), generator)
    tasks = torch.zeros(3, dtype=torch.int64)
    first = rows.reset(tasks).obs
    assert len(first[:, 0, 0].unique()) == 3
    again = rows.reset(tasks, torch.tensor([False, True, False])).obs
    drawn = torch.Generator().manual_seed(5)
    seeds = [torch.randint(2**31, (3,), generator=drawn) for _ in range(2)]
    for row, seed in enumerate([seeds[0][0], seeds[1][1], seeds[0][2]]):
        expected, _ = walk().reset(seed=int(seed))
        assert again[row, 0, 0].item() == pytest.approx(expected["walker_0"][0])


def test_an_environment_without_a_time_limit_takes_the_one_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert layout_of(endless()).max_cycles == 0
    monkeypatch.setattr(Walk, "max_cycles", None, raising=False)
    assert layout_of(endless()).max_cycles == 0
    assert family("endless", episode_steps=7).spec.episode_steps == 7


@pytest.mark.parametrize("is_found", [False, True])
def test_the_tasks_are_those_of_the_versions_of_all_that_makes_them(
    monkeypatch: pytest.MonkeyPatch, is_found: bool
) -> None:
    """However the project itself is installed."""
    known = {**metadata.packages_distributions(), "envs": ["mg2l_kalei"] if is_found else []}
    monkeypatch.setattr(metadata, "packages_distributions", lambda: known)
    assert versions("envs.pettingzoo.foraging:parallel_env").keys() == {"lbforaging", "pettingzoo"}
    assert versions("mpe2.simple_tag_v3:parallel_env").keys() == {"mpe2", "pettingzoo"}


def test_a_family_that_is_not_drawn_says_so() -> None:
    assert batch("walk").scene(0) is None
