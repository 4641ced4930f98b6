"""Are World and Push the recorded ones, and do temperaments, forests and food do what they say?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from envs import ENVS, make_family
from envs.check import check_family
from envs.core import Refusal
from envs.mpe.contest import PLAYERS
from envs.mpe.foresight import Foresight
from envs.mpe.layout import MOVES
from envs.mpe.push import PushBatch
from envs.mpe.scenario import Scenario, ScenarioBatch, ScenarioState
from envs.mpe.world_scenario import FOREST, WorldBatch

GOLDEN = Path(__file__).parents[1] / "golden"
RECORDED = {"mpe-world": ("mpe_world_4v2.npz", 4), "mpe-push": ("mpe_push_5v2.npz", 5)}  # file, learners
N_STEPS = 25
every_recorded = pytest.mark.parametrize("name", RECORDED)


def scenario(name: str, **settings: Any) -> Scenario:
    family = make_family(name, replace(ENVS[name][1], **settings), np.random.default_rng(0))
    assert isinstance(family, Scenario)
    return family


def started(
    name: str, n_rows: int, tasks: Tensor | None = None, dtype: torch.dtype = torch.float64, **settings: Any
) -> ScenarioBatch:
    rows = scenario(name, **settings).make(n_rows, torch.device("cpu"), torch.Generator().manual_seed(0), dtype)
    rows.reset(torch.zeros(n_rows, dtype=torch.int64) if tasks is None else tasks)
    return rows


def recorded(name: str, **settings: Any) -> tuple[ScenarioBatch, dict[str, Tensor]]:
    """Rows in the state in which the recorded episodes begin, and the record."""
    data = {key: torch.tensor(array) for key, array in np.load(GOLDEN / RECORDED[name][0]).items()}
    n_rows, n_landmarks = data["landmark"].shape[:2]
    rows = started(name, n_rows, **settings)
    goals = torch.eye(n_landmarks, dtype=torch.float64)[data["goal"]][:, None] if "goal" in data else rows.now.goals
    rows.now = rows.now._replace(pos=data["pos"][:, 0], vel=data["vel"][:, 0], landmarks=data["landmark"], goals=goals)
    return rows, data


# --- parity -----------------------------------------------------------------------------------------------------------


@every_recorded
def test_scripted_opponents_and_all_bodies_move_as_recorded(name: str) -> None:
    (rows, data), n = recorded(name), RECORDED[name][1]
    assert isinstance(rows, WorldBatch | PushBatch)
    moves = torch.tensor(MOVES, dtype=torch.float64)
    for t in range(N_STEPS):
        torch.testing.assert_close(rows._script(), moves[data["action_index"][:, t, n:]], rtol=0, atol=0)
        result = rows.step(data["action_index"][:, t, :n])
        torch.testing.assert_close(rows.now.pos, data["pos"][:, t + 1], atol=1e-9, rtol=0)
        torch.testing.assert_close(rows.now.vel, data["vel"][:, t + 1], atol=1e-9, rtol=0)
        torch.testing.assert_close(result.reward, data["reward"][:, t, :n], atol=1e-9, rtol=0)
        torch.testing.assert_close(result.reward.sum(-1), data["team_reward"][:, t], atol=1e-9, rtol=0)
    assert result.truncated.all()


@every_recorded
def test_opponents_that_learn_see_and_are_paid_as_recorded(name: str) -> None:
    (rows, data), n = recorded(name, opponents="learning"), RECORDED[name][1]
    for t in range(N_STEPS):
        result = rows.step(data["action_index"][:, t])
        if name == "mpe-world":
            torch.testing.assert_close(result.obs, data["obs_all_velocities"][:, t + 1], atol=1e-9, rtol=0)
        else:
            learners, width = data["obs_learner"][:, t + 1], data["obs_learner"].shape[-1]
            torch.testing.assert_close(result.obs[:, :n, :width], learners, atol=1e-9, rtol=0)
            torch.testing.assert_close(result.obs[:, n:], data["obs_opponent"][:, t + 1], atol=1e-9, rtol=0)
        torch.testing.assert_close(result.reward, data["reward"][:, t], atol=1e-9, rtol=0)


def mean_return(rows: ScenarioBatch, play: Any) -> float:
    """Of a team, summed over agents."""
    return float(torch.stack([rows.step(play(rows)).reward.sum(-1) for _ in range(N_STEPS)]).sum(0).mean())


def toward(rows: ScenarioBatch, places: Tensor) -> Tensor:
    """The move that leads each learner nearest to its place (B, n, 2) within a few steps."""
    n = rows.spec.n_agents
    ends = Foresight(rows._layout.kinds[0].body, rows._world).ends(rows.now.pos[:, :n], rows.now.vel[:, :n])
    return (ends - places[:, :, None]).norm(dim=-1).argmin(-1)


def to_nearest_prey(rows: ScenarioBatch) -> Tensor:
    n = rows.spec.n_agents
    nearest = torch.cdist(rows.now.pos[:, :n], rows.now.pos[:, n:]).argmin(-1)
    expected = rows.now.pos[:, n:] + 0.3 * rows.now.vel[:, n:]
    return toward(rows, expected.take_along_dim(nearest[:, :, None], dim=1))


def to_the_goal(rows: ScenarioBatch) -> Tensor:
    return toward(rows, rows._goal_places().expand(-1, rows.spec.n_agents, -1))


def at_random(rows: ScenarioBatch) -> Tensor:
    generator = torch.Generator().manual_seed(int(rows.now.elapsed[0]))
    return torch.randint(len(MOVES), (len(rows.now.pos), rows.spec.n_agents), generator=generator)


@pytest.mark.parametrize(
    ("name", "play", "expected", "margin"),
    [
        ("mpe-world", at_random, -10, 4),
        ("mpe-world", to_nearest_prey, 84, 20),
        ("mpe-push", at_random, -120, 10),
        ("mpe-push", to_the_goal, -13, 4),
    ],
)
def test_simple_play_has_the_returns_that_a_rebuilt_original_gave(
    name: str, play: Any, expected: float, margin: float
) -> None:
    assert abs(mean_return(started(name, 400), play) - expected) < margin


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opponents", PLAYERS)
@every_recorded
def test_they_are_honest_whoever_plays_the_opponents(name: str, opponents: str) -> None:
    assert check_family(scenario(name, opponents=opponents)) == []


def test_tasks_and_forests_are_honest() -> None:
    assert check_family(scenario("mpe-world-tasks", num_forests=2, is_discrete=False)) == []


def test_whom_a_forest_holds_is_seen_by_those_in_it_alone() -> None:
    rows = started("mpe-world", 1, num_forests=2, num_predators=3, num_preys=1, num_obstacles=0, num_food=1)
    places = torch.tensor([[[5.0, 0], [0, 0], [9, 9]]], dtype=torch.float64)  # food, and two forests
    pos = torch.tensor([[[0.0, 0.1], [0.1, 0], [2, 2], [0, FOREST.size + 0.2]]], dtype=torch.float64)
    assert isinstance(rows, WorldBatch)
    rows.now = ScenarioState(pos, torch.ones_like(pos), places, *rows.now[3:])
    _, others, velocities, inside = rows._views()[0][0].split((10, 6, 6, 2), dim=-1)
    is_seen = others.view(3, 3, 2).abs().sum(-1) > 0
    assert is_seen.tolist() == [[True, False, False], [True, False, False], [False, False, True]]
    assert torch.equal(velocities.view(3, 3, 2)[..., 0] > 0, is_seen)
    assert inside.tolist() == [[1, -1], [1, -1], [-1, -1]]


def test_temperaments_show_in_where_preys_go_and_in_nothing_else() -> None:
    family = scenario("mpe-world-tasks")
    names = [task.name for task in family.tasks]
    rows = started(
        "mpe-world-tasks", 300, torch.tensor([names.index(name) for name in ("east", "west", "south")] * 100)
    )
    first = rows._obs()
    assert torch.equal(rows._obs(), first) and rows._state().shape[1] == family.spec.state_dim
    for _ in range(N_STEPS):
        rows.step(torch.zeros(300, 4, dtype=torch.int64))
    east, west, south = rows.now.pos[:, 4:].mean(1).view(100, 3, 2).mean(0)
    assert east[0] > 0.4 and west[0] < -0.4 and south[1] < -0.4


def test_no_temperament_is_asked_of_preys_that_have_none() -> None:
    with pytest.raises(Refusal, match="opponents=uniform leaves no temperament to infer"):
        scenario("mpe-world-tasks", opponents="uniform")
