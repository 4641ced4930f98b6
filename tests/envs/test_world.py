"""Is the physics the reference's, and right where the recorded trajectories do not go?"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from envs.mpe.hunting import PREDATOR, PREY
from envs.mpe.spread import AGENT
from envs.mpe.world import Body, Motion, World, coasting_distance, resting_place

GOLDEN = Path(__file__).parents[1] / "golden"
CPU = torch.device("cpu")
RECORDED = {
    "mpe_spread_2agents_3landmarks.npz": [AGENT] * 2,
    "mpe_hunting_3predators_2preys.npz": [PREDATOR] * 3 + [PREY] * 2,
}


def at(*places: tuple[float, float]) -> Motion:
    """Bodies at rest, in one row."""
    pos = torch.tensor([places], dtype=torch.float64)
    return Motion(pos, torch.zeros_like(pos))


def world(*bodies: Body) -> World:
    return World(bodies, CPU, torch.float64)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize("recording", RECORDED)
def test_actions_replayed_from_the_start_give_the_recorded_trajectory(
    recording: str, dtype: torch.dtype, tolerance: float
) -> None:
    data = {name: torch.tensor(array).to(dtype) for name, array in np.load(GOLDEN / recording).items()}
    replay = World(RECORDED[recording], CPU, dtype)
    motion = Motion(data["pos"][:, 0], data["vel"][:, 0])
    for t in range(data["action"].shape[1]):
        motion = replay.advance(motion, data["action"][:, t])
        torch.testing.assert_close(motion.pos, data["pos"][:, t + 1], atol=tolerance, rtol=0)
        torch.testing.assert_close(motion.vel, data["vel"][:, t + 1], atol=tolerance, rtol=0)


def test_velocity_is_damped_and_pushed_before_the_body_moves() -> None:
    start = Motion(torch.zeros(1, 1, 2), torch.tensor([[[0.4, 0.0]]]))
    motion = World([Body(0.1, accel=5.0)], CPU).advance(start, torch.tensor([[[1.0, -1.0]]]))
    torch.testing.assert_close(motion.vel, torch.tensor([[[0.4 * 0.75 + 0.5, -0.5]]]))
    torch.testing.assert_close(motion.pos, motion.vel * 0.1)


def test_speed_is_limited_and_keeps_its_direction() -> None:
    limited = world(Body(0.05, accel=3.0, max_speed=1.2))
    control = torch.tensor([[[0.6, -0.8]]], dtype=torch.float64) * 20
    motion = limited.advance(at((0.0, 0.0)), control)
    torch.testing.assert_close(motion.vel, 1.2 * control / 20)


def test_each_body_has_its_own_speed_limit_and_one_at_rest_stays_at_rest() -> None:
    bodies = world(Body(0.1, max_speed=1.0, collides=False), Body(0.1, collides=False), Body(0.1, max_speed=1.0))
    control = torch.tensor([[[9.0, 0.0], [9.0, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    speed = bodies.advance(at((0, 0), (0, 0), (0, 0)), control).vel.norm(dim=-1)
    torch.testing.assert_close(speed, torch.tensor([[1.0, 4.5, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize("depth", [0.15, 0.4])  # against the wall; knocked past its line
def test_walls_push_back_even_bodies_that_collide_with_nothing(axis: int, side: float, depth: float) -> None:
    place = [0.3, 0.3]
    place[axis] = side * (1.2 - 0.2 - 0.15 + depth)
    motion = world(Body(0.15, collides=False)).advance(at((place[0], place[1])), torch.zeros(1, 1, 2))
    expected = torch.zeros(1, 1, 2, dtype=torch.float64)
    expected[..., axis] = -side * 100 * depth * 0.1
    torch.testing.assert_close(motion.vel, expected)


def test_the_wall_force_sets_in_smoothly() -> None:
    motion = world(Body(0.15)).advance(at((0.85, 0.0)), torch.zeros(1, 1, 2))
    assert motion.vel[0, 0, 0].item() == pytest.approx(-100 * 1e-3 * math.log(2) * 0.1)


def test_overlapping_bodies_push_each_other_apart_along_the_line_between_them() -> None:
    motion = world(Body(0.1), Body(0.05)).advance(at((0.0, 0.0), (0.03, 0.04)), torch.zeros(1, 2, 2))
    push = 100 * (0.15 - 0.05) * 0.1 * torch.tensor([0.6, 0.8], dtype=torch.float64)
    torch.testing.assert_close(motion.vel, torch.stack((-push, push))[None])


def test_a_body_that_does_not_collide_is_passed_through() -> None:
    bodies = world(Body(0.1), Body(0.1, collides=False), Body(0.1))
    motion = bodies.advance(at((0.0, 0.0), (0.05, 0.0), (0.9, 0.9)), torch.zeros(1, 3, 2))
    assert motion.vel[0, :2].abs().max() == 0


def test_contacts_keep_the_total_momentum() -> None:
    generator = torch.Generator().manual_seed(0)
    pos = 0.2 * torch.rand(64, 5, 2, generator=generator, dtype=torch.float64)
    motion = world(*[Body(0.1)] * 5).advance(Motion(pos, torch.zeros_like(pos)), torch.zeros(64, 5, 2))
    assert motion.vel.abs().max() > 0.5
    assert motion.vel.sum(dim=1).abs().max() < 1e-12


def test_bodies_in_the_very_same_place_stay_finite() -> None:
    motion = world(Body(0.1), Body(0.1)).advance(at((0.2, 0.2), (0.2, 0.2)), torch.zeros(1, 2, 2))
    assert motion.pos.isfinite().all()


def test_a_fixed_body_pushes_as_a_movable_one_does() -> None:
    free = world(Body(0.1), Body(0.2)).advance(at((0.0, 0.0), (0.15, 0.2)), torch.zeros(1, 2, 2))
    alone = World([Body(0.1)], CPU, torch.float64, fixed=[Body(0.2)])
    motion = alone.advance(at((0.0, 0.0)), torch.zeros(1, 1, 2), torch.tensor([[[0.15, 0.2]]], dtype=torch.float64))
    assert motion.vel.norm() > 0.1
    torch.testing.assert_close(motion.vel, free.vel[:, :1])


def test_a_body_that_coasts_comes_to_rest_where_it_is_expected_to() -> None:
    body = Body(0.1, accel=3.0)
    bodies = World([body], CPU, torch.float64, has_walls=False, moves_first=True)
    motion = bodies.advance(at((0.3, 0.3)), torch.tensor([[[1.0, 0.0]]], dtype=torch.float64))
    expected = resting_place(motion)
    for _ in range(100):
        motion = bodies.advance(motion, torch.zeros(1, 1, 2, dtype=torch.float64))
    torch.testing.assert_close(motion.pos, expected)
    assert motion.pos[0, 0, 0].item() - 0.3 == pytest.approx(coasting_distance(body))
