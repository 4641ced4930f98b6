"""Is Spread-Target the published task?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from envs import ENVS, make_family
from envs.core import Task
from envs.mpe.layout import MOVES
from envs.mpe.spread import RING_JITTER, RING_RADIUS, Spread, SpreadBatch, SpreadConfig, SpreadState

GOLDEN = Path(__file__).parents[1] / "golden" / "mpe_spread_2agents_3landmarks.npz"


def spread(**settings: Any) -> Spread:
    return Spread("mpe-spread", SpreadConfig(**settings), np.random.default_rng(0))


def batch(family: Spread, n_rows: int, dtype: torch.dtype = torch.float64) -> SpreadBatch:
    return family.make(n_rows, torch.device("cpu"), torch.Generator().manual_seed(0), dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_observations_and_rewards_are_the_recorded_ones(dtype: torch.dtype, tolerance: float) -> None:
    data = {name: torch.tensor(array).to(dtype) for name, array in np.load(GOLDEN).items()}
    rows = batch(spread(), len(data["pos"]), dtype)
    rows.now = SpreadState(
        pos=data["pos"][:, 0],
        vel=data["vel"][:, 0],
        landmarks=data["landmark"],
        targets=data["task"],
        elapsed=torch.zeros(len(data["pos"]), dtype=torch.int64),
    )
    for t in range(data["action"].shape[1]):
        result = rows.step(data["action"][:, t])
        torch.testing.assert_close(result.obs, data["obs"][:, t + 1], atol=tolerance, rtol=0)
        torch.testing.assert_close(result.reward, data["reward"][:, t], atol=tolerance, rtol=0)


def test_tasks_are_the_choices_of_targets_and_all_are_seen() -> None:
    family = spread()
    assert [task.params["targets"] for task in family.tasks] == [[0, 1], [0, 2], [1, 2]]
    assert family.tasks[1] == Task("targets-0-2", {"targets": [0, 2]}, (1.0, 0.0, 1.0))
    assert family.seen_only
    assert len(spread(n_agents=3, n_landmarks=6).tasks) == 20


def test_held_out_tasks_are_drawn_come_last_and_are_no_training_tasks() -> None:
    family = spread(n_agents=3, n_landmarks=6, n_held_out=5)
    assert [task.split for task in family.tasks] == ["train"] * 15 + ["test"] * 5
    assert {task.name for task in family.tasks} == {task.name for task in spread(n_agents=3, n_landmarks=6).tasks}
    other = Spread("mpe-spread", SpreadConfig(3, 6, 5), np.random.default_rng(1))
    assert family.task_ids("test").tolist() == [15, 16, 17, 18, 19] and other.fingerprint() != family.fingerprint()
    with pytest.raises(ValueError, match="n_held_out=3 leaves none of 3 tasks"):
        spread(n_held_out=3)


def test_a_landmark_that_does_not_count_changes_no_reward() -> None:
    rows = batch(spread(), 3)
    rows.reset(torch.tensor([0, 1, 2]))
    before = rows.now
    reward = rows.step(torch.zeros(3, 2, 2)).reward
    moved = before.landmarks + (1 - before.targets)[:, :, None]  # the one that does not count, elsewhere
    rows.now = before._replace(landmarks=moved)
    torch.testing.assert_close(rows.step(torch.zeros(3, 2, 2)).reward, reward, rtol=0, atol=0)


def test_neither_observation_nor_state_tells_the_task() -> None:
    shown = []
    for task in range(3):
        rows = batch(spread(), 4)
        start = rows.reset(torch.full((4,), task))
        after = rows.step(torch.ones(4, 2, 2))
        shown.append(torch.cat([start.obs.flatten(1), start.state, after.obs.flatten(1), after.state], dim=1))
    assert torch.equal(shown[0], shown[1])
    assert torch.equal(shown[0], shown[2])


def test_agents_and_landmarks_start_over_their_whole_ranges() -> None:
    rows = batch(spread(), 2000)
    rows.reset(torch.zeros(2000, dtype=torch.int64))
    for points, limit in ((rows.now.pos, 1.0), (rows.now.landmarks, 0.9)):
        assert 0.98 * limit < points.max() <= limit
        assert -limit <= points.min() < -0.98 * limit
        assert points.mean().abs() < 0.05


def test_on_a_ring_each_landmark_stands_near_its_own_place() -> None:
    rows = batch(spread(n_landmarks=6, landmarks="ring"), 2000)
    rows.reset(torch.zeros(2000, dtype=torch.int64))
    angle = torch.arange(6) * torch.pi / 3
    away = rows.now.landmarks - RING_RADIUS * torch.stack([angle.cos(), angle.sin()], dim=-1)
    assert 0.98 * RING_JITTER < away.abs().max() <= RING_JITTER + 1e-6
    assert away.mean((0, 2)).abs().max() < 0.01


def test_where_landmarks_stand_is_part_of_the_fingerprint() -> None:
    assert spread(landmarks="ring").fingerprint() != spread().fingerprint()


@pytest.mark.parametrize("name", ["mpe-spread", "mpe-wind", "mpe-spread-roles"])
def test_numbered_actions_are_the_moves_that_the_same_forces_make(name: str) -> None:
    rows = []
    for is_discrete in (False, True):
        family = make_family(name, replace(ENVS[name][1], is_discrete=is_discrete), np.random.default_rng(0))
        rows.append(family.make(2, torch.device("cpu"), torch.Generator().manual_seed(0)))
        rows[-1].reset(torch.zeros(2, dtype=torch.int64))
    forced, numbered = rows
    assert not forced.spec.is_discrete and numbered.spec.is_discrete
    assert numbered.spec.action_dim == len(MOVES)
    for number in range(len(MOVES)):
        action = torch.full((2, numbered.spec.n_agents), number)
        expected = forced.step(torch.tensor(MOVES)[action])
        torch.testing.assert_close(numbered.step(action).obs, expected.obs, rtol=0, atol=0)


def test_fewer_landmarks_than_agents_are_refused() -> None:
    with pytest.raises(ValueError, match="n_landmarks=2 is less than n_agents=3"):
        spread(n_agents=3, n_landmarks=2)


def test_the_scene_marks_the_targets() -> None:
    rows = batch(spread(), 2)
    rows.reset(torch.tensor([0, 1]))
    markers = rows.scene(1).markers
    assert [m.is_target for m in markers if m.role == "landmark"] == [True, False, True]
    assert [m.role for m in markers].count("agent") == 2
