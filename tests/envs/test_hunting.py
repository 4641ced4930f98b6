"""Is Hunting-Target the published task?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from envs.mpe.hunting import Hunting, HuntingBatch, HuntingConfig, HuntingState

GOLDEN = Path(__file__).parents[1] / "golden" / "mpe_hunting_3predators_2preys.npz"
FAR = [(-0.7, -0.7), (-0.7, 0.7)]  # places out of everyone's way


def hunting(noise: str = "symmetric") -> Hunting:
    return Hunting("mpe-hunting", HuntingConfig(prey_noise=noise), np.random.default_rng(0))


def batch(family: Hunting, n_rows: int = 1, dtype: torch.dtype = torch.float64) -> HuntingBatch:
    return family.make(n_rows, torch.device("cpu"), torch.Generator().manual_seed(0), dtype)


def place(rows: HuntingBatch, *places: tuple[float, float], target: int) -> None:
    """Three predators, then two preys, at rest in the one row of the batch."""
    pos = torch.tensor([places], dtype=torch.float64)
    rows.now = HuntingState(pos, torch.zeros_like(pos), torch.tensor([target]), torch.tensor([0]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_observations_rewards_and_flight_are_the_recorded_ones(
    dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {name: torch.tensor(array) for name, array in np.load(GOLDEN).items()}
    task, pos, vel, obs, reward, action = (
        data[name].to(dtype) for name in ("task", "pos", "vel", "obs", "reward", "action")
    )
    rows = batch(hunting(), len(pos), dtype)
    rows.now = HuntingState(pos[:, 0], vel[:, 0], task.long(), torch.zeros_like(task.long()))
    decide = rows._prey_control
    row = torch.arange(len(pos))
    for t in range(action.shape[1]):
        recorded = action[:, t, 3:]
        flight = decide()[row, task.long()]
        torch.testing.assert_close(flight, recorded[row, task.long()], atol=tolerance, rtol=0)
        monkeypatch.setattr(rows, "_prey_control", lambda control=recorded: control)
        result = rows.step(action[:, t, :3])
        torch.testing.assert_close(result.obs, obs[:, t + 1], atol=tolerance, rtol=0)
        torch.testing.assert_close(result.reward, reward[:, t], atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("gap", "target", "bonus"),
    [
        (0.151, 0, 10.0),  # closes to 0.136, and the bodies touch at 0.15
        (0.170, 0, 0.0),  # closes to 0.155
        (0.151, 1, 0.0),  # touches a prey that does not count
    ],
)
def test_only_the_predator_that_touches_the_target_is_paid_for_it(gap: float, target: int, bonus: float) -> None:
    rows = batch(hunting())
    place(rows, (0.0, 0.0), (0.5, -0.5), FAR[0], (gap, 0.0), FAR[1], target=target)
    rows.now.vel[0, 0, 0] = 0.2
    result = rows.step(torch.tensor([[[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]]))
    gaps = (rows.now.pos[0, :3] - rows.now.pos[0, 3 + target]).norm(dim=-1)
    expected = torch.tensor([bonus, 0.0, 0.0], dtype=torch.float64) - 0.1 * gaps.sum()
    torch.testing.assert_close(result.reward[0], expected)


def test_what_is_out_of_sight_is_seen_as_zeros() -> None:
    rows = batch(hunting())
    place(rows, (-0.6, -0.6), (0.0, 0.0), FAR[1], (0.6, 0.6), (0.3, 0.3), target=0)
    obs = rows.step(torch.zeros(1, 3, 2)).obs[0, 0]  # predators at rest: only preys move, by 0.03 at most
    relative, distance = obs[2:10].view(4, 2), obs[10:]
    assert distance[2] == 0
    assert (relative[2] == 0).all()
    assert (distance[[0, 1, 3]] > 0.5).all()
    torch.testing.assert_close(relative.norm(dim=-1), distance)


def test_the_target_outruns_predators_that_run_at_their_limit() -> None:
    rows = batch(hunting())
    place(rows, (-0.6, 0.0), *FAR, (0.2, 0.0), (0.9, 0.9), target=0)
    for _ in range(8):
        rows.step(torch.tensor([[[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]]))
    speed = rows.now.vel[0].norm(dim=-1)
    assert speed[0].item() == pytest.approx(1.0)
    assert 1.05 < speed[3] <= 1.2
    assert rows.now.vel[0, 3, 1] == 0  # straight away


@pytest.mark.parametrize(("noise", "drifts"), [("symmetric", False), ("original", True)])
def test_preys_that_do_not_count_drift_into_a_corner_only_in_the_original(noise: str, drifts: bool) -> None:
    rows = batch(hunting(noise), n_rows=64)
    rows.reset(torch.zeros(64, dtype=torch.int64))
    for _ in range(60):
        rows.step(torch.zeros(64, 3, 2))
    mean = rows.now.pos[:, 4].mean(dim=0)
    assert bool((mean > 0.6).all()) == drifts
    assert bool((mean.abs() < 0.25).all()) != drifts


def test_at_the_start_neither_observation_nor_state_tells_the_task() -> None:
    starts = [batch(hunting(), 4).reset(torch.full((4,), task)) for task in (0, 1)]
    assert torch.equal(starts[0].obs, starts[1].obs)
    assert torch.equal(starts[0].state, starts[1].state)


def test_the_scene_marks_the_prey_that_counts() -> None:
    rows = batch(hunting(), 2)
    rows.reset(torch.tensor([0, 1]))
    assert [m.is_target for m in rows.scene(1).markers if m.role == "prey"] == [False, True]
