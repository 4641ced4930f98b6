"""Do opponents, messages and unequal agents of mpe2's scenarios behave as their settings say?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from envs import ENVS, make_family
from envs.check import check_family
from envs.core import StepResult
from envs.mpe.contest import OPPONENTS, PLAYERS, ContestBatch
from envs.mpe.layout import LEARNING, MOVES
from envs.mpe.scenario import Scenario, ScenarioBatch
from envs.mpe.simple_adversary import SimpleAdversaryBatch
from envs.mpe.simple_tag import CATCH_REWARD, SimpleTagBatch

SCENARIOS = [name for name in ENVS if name.startswith("mpe-simple-")]
CONTESTS = [name for name in SCENARIOS if hasattr(ENVS[name][1], "opponents")]
every_contest = pytest.mark.parametrize("name", CONTESTS)
discrete_or_not = pytest.mark.parametrize("is_discrete", [True, False])


def scenario(name: str, **settings: Any) -> Scenario:
    family = make_family(name, replace(ENVS[name][1], **settings), np.random.default_rng(0))
    assert isinstance(family, Scenario)
    return family


def started(name: str, n_rows: int = 64, generator: torch.Generator | None = None, **settings: Any) -> ScenarioBatch:
    generator = generator or torch.Generator().manual_seed(0)
    rows = scenario(name, **settings).make(n_rows, torch.device("cpu"), generator)
    rows.reset(torch.zeros(n_rows, dtype=torch.int64))
    return rows


def random_actions(rows: ScenarioBatch, generator: torch.Generator) -> Tensor:
    shape = (len(rows.now.pos), rows.spec.n_agents)
    if rows.spec.is_discrete:
        return torch.randint(len(MOVES), shape, generator=generator)
    return torch.rand(*shape, 2, generator=generator) * 2 - 1


# --- settings ---------------------------------------------------------------------------------------------------------


@discrete_or_not
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_is_honest_with_both_kinds_of_actions(name: str, is_discrete: bool) -> None:
    assert check_family(scenario(name, is_discrete=is_discrete)) == []


@pytest.mark.parametrize("opponents", PLAYERS)
@every_contest
def test_every_contest_is_honest_whoever_plays_the_opponents(name: str, opponents: str) -> None:
    assert check_family(scenario(name, opponents=opponents, is_discrete=False)) == []


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mpe-simple-adversary", {"num_good": 1}),
        ("mpe-simple-tag", {"num_good": 1, "num_adversaries": 1, "num_obstacles": 0}),
        ("mpe-simple-tag", {"num_good": 3, "num_adversaries": 2, "num_obstacles": 1}),
    ],
)
def test_other_numbers_of_agents_are_honest(name: str, settings: dict[str, Any]) -> None:
    assert check_family(scenario(name, **settings)) == []


@pytest.mark.parametrize("name", SCENARIOS)
def test_everything_starts_over_the_whole_of_its_range(name: str) -> None:
    """As in mpe2: agents and landmarks up to 1 m from the middle on both axes, obstacles up to 0.9 m."""
    now = started(name, n_rows=3_000).now
    landmark_range = 0.9 if name == "mpe-simple-tag" else 1.0
    for places, farthest in ((now.pos, 1.0), (now.landmarks, landmark_range)):
        assert 0.99 * farthest < places.abs().amax((0, 1)).min() and places.abs().max() <= farthest
        assert places.mean((0, 1)).abs().max() < 0.05  # five standard deviations
        assert (places.square().mean() - farthest**2 / 3).abs() < 0.02
    assert not now.vel.any() and not now.said.any()


# --- opponents --------------------------------------------------------------------------------------------------------


def test_opponents_that_do_not_learn_all_have_a_way_to_act() -> None:
    assert set(OPPONENTS) == set(PLAYERS) - {LEARNING}


@discrete_or_not
@pytest.mark.parametrize("opponents", OPPONENTS)
@every_contest
def test_opponents_act_as_learners_who_choose_the_same(name: str, opponents: str, is_discrete: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    played = started(name, generator=generator, opponents=opponents, is_discrete=is_discrete)
    by_hand = started(name, opponents="learning", is_discrete=is_discrete)
    assert played.spec.n_agents < by_hand.spec.n_agents
    opponent = 3 if name == "mpe-simple-tag" else 0  # the prey comes last, the adversary first
    learners = [agent for agent in range(by_hand.spec.n_agents) if agent != opponent]
    chance = torch.Generator().manual_seed(1)
    for _ in range(played.spec.episode_steps):
        action = random_actions(played, chance)
        before = generator.get_state()
        everyones = played._everyones(action)
        generator.set_state(before)
        assert torch.equal(everyones[:, learners], action)
        ours, theirs = played.step(action), by_hand.step(everyones)
        assert torch.equal(ours.obs, theirs.obs[:, learners, : played.spec.obs_dim])
        assert torch.equal(ours.reward, theirs.reward[:, learners])
        assert torch.equal(ours.state, theirs.state)


@every_contest
def test_uniform_opponents_make_every_move_equally_often(name: str) -> None:
    rows = started(name, n_rows=5_000, opponents="uniform")
    opponent = 3 if name == "mpe-simple-tag" else 0
    action = rows._everyones(torch.zeros(5_000, rows.spec.n_agents, dtype=torch.int64))[:, opponent]
    assert (action.bincount(minlength=len(MOVES)) - 1_000).abs().max() < 150  # five standard deviations


def head_for_the_prey(rows: ScenarioBatch) -> Tensor:
    """Every adversary straight at the only prey, which is the last body."""
    return torch.nn.functional.normalize(rows.now.pos[:, -1:] - rows.now.pos[:, :-1], dim=-1)


def caught_per_episode(opponents: str) -> float:
    """Touches of hunting adversaries with a prey that has two forces to choose."""
    rows = started("mpe-simple-tag", n_rows=256, opponents=opponents, is_discrete=False)
    rewards = [rows.step(head_for_the_prey(rows)).reward for _ in range(rows.spec.episode_steps)]
    return torch.stack(rewards)[..., 0].sum(0).mean().item() / CATCH_REWARD


def test_a_scripted_prey_is_caught_less_than_a_uniform_one() -> None:
    assert caught_per_episode("scripted") < 0.5 * caught_per_episode("uniform")


@pytest.mark.parametrize(
    ("adversary", "prey", "vel", "wanted"),
    [
        ((0.0, 0.0), (0.3, 0.1), (0.0, 0.0), (1.0, 1 / 3)),  # straight away
        ((0.0, 0.0), (-0.1, -0.4), (0.0, 0.0), (-1 / 4, -1.0)),
        ((0.6, 0.0), (0.95, 0.0), (0.0, 0.0), (-1.0, 0.0)),  # not any farther out
        ((0.6, 0.1), (0.8, 0.0), (1.0, 0.0), (-1.0, -0.5)),  # nor by coasting there
    ],
)
def test_a_prey_flees_from_the_nearest_adversary_and_stays_inside(
    adversary: tuple[float, float], prey: tuple[float, float], vel: tuple[float, float], wanted: tuple[float, float]
) -> None:
    rows = started("mpe-simple-tag", n_rows=1, num_adversaries=2)
    pos = torch.tensor([[(-2.0, 2.0), adversary, prey]])
    rows.now = rows.now._replace(pos=pos, vel=torch.tensor([[(0.0, 0.0), (0.0, 0.0), vel]]))
    assert isinstance(rows, ContestBatch)
    torch.testing.assert_close(rows._script(), torch.tensor([[wanted]]))


@discrete_or_not
def test_an_adversary_comes_to_rest_on_the_landmark_that_good_agents_are_nearest_to(is_discrete: bool) -> None:
    rows = started("mpe-simple-adversary", n_rows=1, is_discrete=is_discrete)
    landmarks = torch.tensor([[(0.8, 0.8), (-0.6, -0.5)]])
    rows.now = rows.now._replace(pos=torch.tensor([[(0.7, 0.6), (-0.6, 0.0), (0.5, -0.5)]]), landmarks=landmarks)
    stay = torch.zeros((1, 2) if is_discrete else (1, 2, 2), dtype=torch.int64 if is_discrete else torch.float32)
    for _ in range(rows.spec.episode_steps):
        rows.step(stay)
    assert torch.dist(rows.now.pos[0, 0], landmarks[0, 1]) < 0.2


def test_a_guess_does_not_depend_on_the_goal() -> None:
    rows = started("mpe-simple-adversary")
    assert isinstance(rows, ContestBatch)
    guess = rows._script()
    rows.now = rows.now._replace(goals=rows.now.goals.flip(-1))
    assert torch.equal(rows._script(), guess)


# --- messages and unequal agents --------------------------------------------------------------------------------------


def test_the_speaker_has_three_actions_and_the_listener_five() -> None:
    rows = started("mpe-simple-speaker-listener", n_rows=2)
    assert (rows.spec.obs_sizes, rows.spec.action_sizes, rows.spec.agent_types) == ((3, 11), (3, 5), (0, 1))
    legal = rows.step(torch.zeros(2, 2, dtype=torch.int64)).legal
    assert legal is not None
    assert legal.tolist() == [[[True, True, True, False, False], [True] * 5]] * 2
    heard = rows.step(torch.full((2, 2), 3)).obs[:, 1, 8:]
    assert heard.isnan().all()  # an action that the speaker does not have does not pass for silence


@pytest.mark.parametrize(("said", "heard"), [(-3.0, 0.0), (-1.0, 0.0), (0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_numbers_are_heard_from_0_to_1(said: float, heard: float) -> None:
    rows = started("mpe-simple-reference", n_rows=1, is_discrete=False)
    action = torch.zeros(1, 2, 12)
    action[0, 1, 2] = said  # the first number of agent 1's message
    result: StepResult = rows.step(action)
    assert result.obs[0, 0, 11:].tolist() == [heard, *[0.5] * 9]


def test_a_word_is_heard_by_the_other_alone_and_for_one_step() -> None:
    rows = started("mpe-simple-reference", n_rows=1)
    rows.step(torch.tensor([[5 * 7 + 2, 0]]))  # agent 0 says 7 and moves to the right
    heard = rows.step(torch.tensor([[5 * 4, 5 * 9 + 1]])).obs[0, :, 11:]
    assert heard.argmax(-1).tolist() == [9, 4]
    assert heard.sum(-1).tolist() == [1.0, 1.0]
    assert rows.now.vel[0, 0].tolist() == [0.375, 0.0] and rows.now.vel[0, 1].tolist() == [-0.5, 0.0]


def test_goals_are_drawn_evenly_and_anew_in_every_row() -> None:
    goals = started("mpe-simple-reference", n_rows=3_000).now.goals  # (B, 2, 3)
    assert (goals.sum(-1) == 1).all()
    both = goals[:, 0].argmax(-1) * 3 + goals[:, 1].argmax(-1)
    assert (both.bincount(minlength=9) - 3_000 / 9).abs().max() < 90  # five standard deviations


def test_learning_opponents_are_agents_of_another_kind() -> None:
    for name, batch in (("mpe-simple-tag", SimpleTagBatch), ("mpe-simple-adversary", SimpleAdversaryBatch)):
        rows = started(name, opponents="learning")
        assert isinstance(rows, batch)
        assert rows.spec.agent_types == ((0, 0, 0, 1) if name == "mpe-simple-tag" else (0, 1, 1))
        assert [marker.role for marker in rows.scene(0).markers].count("opponent") == 0
        assert [marker.role for marker in started(name).scene(0).markers].count("opponent") == 1
