"""Is blind spread the published one, and do hidden assignments hold out what they say?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from envs.mpe.blind_spread import (
    GROUP_SIZES,
    BlindSpread,
    BlindSpreadBatch,
    BlindSpreadConfig,
    BlindSpreadState,
    BlindSpreadTasks,
    BlindSpreadTasksConfig,
)
from envs.mpe.layout import MOVES
from envs.mpe.spread_roles import SpreadRoles, SpreadRolesBatch, SpreadRolesConfig

GOLDEN = Path(__file__).parents[1] / "golden"
CPU = torch.device("cpu")
SINGLE = torch.finfo(torch.float32).eps  # to which observations were recorded


def blind_spread(version: int) -> BlindSpread:
    return BlindSpread("mpe-blind-spread", BlindSpreadConfig(version), np.random.default_rng(0))


def tasks(**settings: int) -> BlindSpreadTasks:
    return BlindSpreadTasks("mpe-blind-spread-tasks", BlindSpreadTasksConfig(**settings), np.random.default_rng(0))


def batch(family: BlindSpread | BlindSpreadTasks, n_rows: int) -> BlindSpreadBatch:
    return family.make(n_rows, CPU, torch.Generator().manual_seed(0), torch.float64)


@pytest.mark.parametrize("version", [1, 3, 5])
def test_positions_observations_and_rewards_are_the_recorded_ones(version: int) -> None:
    data = {name: torch.from_numpy(array) for name, array in np.load(GOLDEN / f"bps_v{version}.npz").items()}
    family = blind_spread(version)
    family.orders = data["obs_perm"].long().numpy()
    n_episodes, n_steps, _ = data["action"].shape
    rows = batch(family, n_episodes)
    rows.now = BlindSpreadState(
        pos=data["pos"][:, 0],
        vel=data["vel"][:, 0],
        landmarks=data["landmark_pos"],
        own=data["group"].expand(n_episodes, -1),
        elapsed=torch.zeros(n_episodes, dtype=torch.int64),
    )
    assert family.true_groups == tuple(data["group"].tolist())
    torch.testing.assert_close(rows._obs().float(), data["obs"][:, 0].float(), atol=1e-9, rtol=SINGLE)
    for t in range(n_steps):
        result = rows.step(data["action"][:, t].long())
        torch.testing.assert_close(rows.now.pos, data["pos"][:, t + 1], atol=1e-9, rtol=0)
        torch.testing.assert_close(rows.now.vel, data["vel"][:, t + 1], atol=1e-9, rtol=0)
        torch.testing.assert_close(result.obs.float(), data["obs"][:, t + 1].float(), atol=1e-9, rtol=SINGLE)
        torch.testing.assert_close(result.reward, data["reward"][:, t], atol=1e-9, rtol=0)
        assert torch.equal(result.truncated, data["done"][:, t].any(-1)) and not result.terminated.any()


@pytest.mark.parametrize("version", list(GROUP_SIZES))
def test_each_group_has_its_size_and_shuffled_versions_an_order_of_their_own(version: int) -> None:
    family = blind_spread(version)
    sizes = np.bincount(family.true_groups)
    assert tuple(sizes) == GROUP_SIZES[version]
    shown = batch(family, 1).reset(torch.zeros(1, dtype=torch.int64)).obs[0]
    plain = batch(blind_spread({5: 1, 6: 3}.get(version, version)), 1).reset(torch.zeros(1, dtype=torch.int64)).obs[0]
    assert torch.equal(shown.sort(-1)[0], plain.sort(-1)[0])
    assert torch.equal(shown, plain) == (version < 5)


def test_going_nearer_as_fast_as_one_can_comes_to_the_recorded_return() -> None:
    """A team that knows its colours gets -200 on version 1: the originals' code, 600 episodes, -200 +- 3."""
    rows = batch(blind_spread(1), 600)
    rows.reset(torch.zeros(600, dtype=torch.int64))
    total = torch.zeros(600, dtype=torch.float64)
    for _ in range(50):
        goal = rows.now.landmarks.gather(1, rows.now.own[..., None].expand(-1, -1, 2))
        vel = 0.75 * rows.now.vel[:, :, None] + 0.5 * torch.tensor(MOVES, dtype=torch.float64)
        after = rows.now.pos[:, :, None] + 0.1 * vel  # (B, N, 5, 2)
        total += rows.step((goal[:, :, None] - after).norm(dim=-1).argmin(-1)).reward.sum(-1)
    assert total.mean().item() == pytest.approx(-201, abs=4)


def owned(family: BlindSpreadTasks | SpreadRoles, split: str) -> Tensor:
    return torch.tensor([task.params["landmarks"] for task in family.splits[split]])


def test_everybody_owns_every_landmark_in_training_and_no_assignment_is_in_two_splits() -> None:
    for family in (tasks(), SpreadRoles("mpe-spread-roles", SpreadRolesConfig(), np.random.default_rng(0))):
        train, test = owned(family, "train"), owned(family, "test")
        n = train.shape[1]
        assert all(set(column.tolist()) == set(range(n)) for column in train.T)
        assert len({tuple(row) for row in torch.cat((train, test)).tolist()}) == len(train) + len(test)
        assert torch.equal(family.features()[: len(train)].view(-1, n, n).argmax(-1), train)
    assert len(tasks().splits["train"]) == 20 and len(tasks().splits["test"]) == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_groups": 3}, "n_train=20, n_test=6 are more tasks than the 6 ways"),
        ({"n_train": 4}, "n_train=4 is less than 5"),
    ],
)
def test_assignments_that_cannot_be_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tasks(**settings)


def test_a_task_decides_whose_landmark_is_whose_and_nothing_that_is_seen() -> None:
    family = tasks()
    rows = [batch(family, 2) for _ in range(2)]
    seen = [rows[i].reset(torch.tensor(numbers)) for i, numbers in enumerate(([0, 1], [2, 3]))]
    assert torch.equal(seen[0].obs, seen[1].obs) and torch.equal(seen[0].state, seen[1].state)
    results = [r.step(torch.zeros(2, 10, dtype=torch.int64)) for r in rows]
    group = torch.tensor(family.true_groups)
    for i, row, task in ((0, 0, 0), (1, 1, 3)):
        goal = rows[i].now.landmarks[row][owned(family, "train")[task][group]]
        expected = -0.5 * (goal - rows[i].now.pos[row]).norm(dim=-1)
        assert torch.allclose(results[i].reward[row], expected)


def test_roles_pay_the_team_for_each_agents_own_landmark() -> None:
    family = SpreadRoles("mpe-spread-roles", SpreadRolesConfig(), np.random.default_rng(0))
    rows: SpreadRolesBatch = family.make(6, CPU, torch.Generator().manual_seed(0), torch.float64)
    rows.reset(torch.arange(6))
    rows.reset(torch.arange(6).flip(0), where=torch.tensor([True] + [False] * 5))  # row 0 plays task 5 from now on
    result = rows.step(torch.zeros(6, 3, 2, dtype=torch.float64))
    for row, task in enumerate([5, 1, 2, 3, 4, 5]):
        places = rows.now.landmarks[row][family.tasks[task].params["landmarks"]]
        expected = -(places - rows.now.pos[row]).norm(dim=-1).sum()
        assert torch.allclose(result.reward[row], expected.expand(3))
    assert SpreadRolesConfig(n_agents=4, n_train=18, n_test=6)
