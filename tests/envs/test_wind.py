"""Is the wind hidden, constant, felt as a force, and drawn as each split says?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from envs.mpe.spread import AGENT
from envs.mpe.wind import TRAIN_STRENGTH, UNSEEN_ARC, UNSEEN_STRENGTHS, Wind, WindBatch, WindConfig
from envs.mpe.world import DAMPING, TIME_STEP


def wind(seed: int = 0, **settings: Any) -> Wind:
    return Wind("mpe-wind", WindConfig(**settings), np.random.default_rng(seed))


def batch(family: Wind, n_rows: int) -> WindBatch:
    return family.make(n_rows, torch.device("cpu"), torch.Generator().manual_seed(0), torch.float64)


def polar(family: Wind, split: str) -> tuple[Tensor, Tensor]:
    """Strengths and directions of a split's winds: (n,) N and (n,) rad in [0, 2 pi)."""
    x, y = torch.tensor([task.params["force"] for task in family.splits[split]], dtype=torch.float64).unbind(-1)
    return torch.hypot(x, y), torch.atan2(y, x) % (2 * math.pi)


@pytest.mark.parametrize("split", ["train", "test"])
def test_winds_to_train_and_test_on_are_of_the_seen_strengths_and_directions(split: str) -> None:
    strength, direction = polar(wind(n_train=500, n_test=500), split)
    assert TRAIN_STRENGTH[0] <= strength.min() and strength.max() <= TRAIN_STRENGTH[1]
    assert not ((direction > UNSEEN_ARC[0]) & (direction < UNSEEN_ARC[1])).any()
    assert direction.histc(12, 0, 2 * math.pi).gt(0).sum() == 10  # of twelve parts, the arc is two


def test_winds_out_of_range_are_half_of_other_strengths_and_half_of_other_directions() -> None:
    strength, direction = polar(wind(n_ood=200), "ood")
    is_within = (strength >= TRAIN_STRENGTH[0]) & (strength <= TRAIN_STRENGTH[1])
    is_unseen = (direction >= UNSEEN_ARC[0]) & (direction <= UNSEEN_ARC[1])
    assert (is_within == is_unseen).all() and is_unseen.sum() == 100
    for low, high in UNSEEN_STRENGTHS:
        assert ((strength >= low) & (strength <= high)).sum() == 50


def test_tasks_are_a_function_of_the_seed() -> None:
    assert wind().fingerprint() == wind().fingerprint() != wind(seed=1).fingerprint()


def test_the_wind_is_a_force_on_every_agent() -> None:
    family = wind()
    rows, task = batch(family, 3), torch.tensor([0, 1, 70])
    rows.reset(task)
    before = rows.now._replace(pos=torch.zeros_like(rows.now.pos))  # far from walls
    rows.now = before
    rows.step(torch.zeros(3, 2, 2, dtype=torch.float64))
    force = torch.tensor([family.tasks[i].params["force"] for i in task.tolist()], dtype=torch.float64)
    assert torch.allclose(rows.now.vel, (force * TIME_STEP)[:, None].expand(3, 2, 2))
    rows.step((-force / AGENT.accel)[:, None].expand(3, 2, 2))  # holds against it
    assert torch.allclose(rows.now.vel, (1 - DAMPING) * (force * TIME_STEP)[:, None].expand(3, 2, 2))


def test_neither_observation_nor_state_tells_the_wind() -> None:
    family = wind()
    seen = [batch(family, 2).reset(torch.tensor(tasks)) for tasks in ([0, 1], [2, 3])]
    assert torch.equal(seen[0].obs, seen[1].obs) and torch.equal(seen[0].state, seen[1].state)
