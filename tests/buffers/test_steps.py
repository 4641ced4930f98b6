"""Do transitions over several steps sum what they should, end where they should, and bootstrap where they end?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mg2l_kalei.buffers.steps import Returns, n_step_returns, transitions
from mg2l_kalei.types import Step, TaskLatent
from tests.small_systems import DISCRETE, draw, generator, random_rollout

NOBODY = torch.zeros(5, 3, dtype=torch.bool)


def returns(reward: Tensor, n: int, *, gamma: float = 0.5, next_alive: Tensor | None = None, **ends: Tensor) -> Returns:
    """Of rewards (T, B, V) in episodes that end as told."""
    T, B, _ = reward.shape
    nowhere = torch.zeros(T, B, dtype=torch.bool)
    steps = random_rollout(n_steps=T, n_rows=B).steps
    steps = steps._replace(**{"terminated": nowhere, "truncated": nowhere} | ends)
    stays = torch.ones_like(reward, dtype=torch.bool) if next_alive is None else next_alive
    return n_step_returns(reward, steps, stays, n=n, gamma=gamma)


def test_three_steps_by_hand() -> None:
    """Rewards 1, 2, 4, 8, 16: an episode ends with step 2 in rows 1 (the task) and 2 (time); the trial with step 4."""
    reward = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])[:, None, None].expand(5, 3, 1)
    terminated, truncated = NOBODY.clone(), NOBODY.clone()
    terminated[2, 1] = truncated[2, 2] = True
    got = returns(reward, 3, terminated=terminated, truncated=truncated)
    assert got.last.T.tolist() == [[2, 3, 4, 4, 4], [2, 2, 2, 4, 4], [2, 2, 2, 4, 4]]
    assert got.value[..., 0].T.tolist() == [[3, 6, 12, 16, 16], [3, 4, 4, 16, 16], [3, 4, 4, 16, 16]]
    whole, half = [0.125, 0.125, 0.125, 0.25, 0.5], [0.125, 0.25, 0.5, 0.25, 0.5]
    assert got.discount[..., 0].T.tolist() == [whole, [0.0, 0.0, 0.0, 0.25, 0.5], half]


def test_nothing_follows_for_who_has_left() -> None:
    reward = torch.ones(5, 3, 2)
    next_alive = torch.ones(5, 3, 2, dtype=torch.bool)
    next_alive[2:, :, 1] = False
    got = returns(reward, 2, next_alive=next_alive)
    assert got.discount[:, 0].T.tolist() == [[0.25, 0.25, 0.25, 0.25, 0.5], [0.25, 0, 0, 0, 0]]


def test_more_steps_than_the_trial_has_are_all_of_them() -> None:
    reward = draw(5, 3, 2)
    got = returns(reward, 100)
    torch.testing.assert_close(got.value[0], (reward * 0.5 ** torch.arange(5.0)[:, None, None]).sum(0))
    assert (got.discount[0] == 0.5**5).all()


def test_transitions_are_those_of_the_published_buffer() -> None:
    """A stream of two rows, n = 3: theirs cuts the last ones off at the stream's end, as ours at the trial's.

    It stores rewards as float32.
    """
    golden = np.load(Path(__file__).parents[1] / "golden" / "nstep_buffer.npz")
    stream = {key.removeprefix("stream."): torch.from_numpy(golden[key]) for key in golden if "stream" in key}
    ends = {"terminated": stream["term"], "truncated": stream["done"] & ~stream["term"]}
    got = returns(stream["reward"].float().double()[..., None], int(golden["n_step"]), gamma=0.99, **ends)
    state = {float(number): i for i, number in enumerate(stream["state"].flatten())}
    for entry, number in enumerate(golden["start_state"]):
        t, b = divmod(state[float(number)], 2)
        assert stream["next_state"][got.last[t, b], b] == golden["last_next_state"][entry]
        assert float(got.value[t, b]) == pytest.approx(golden["return"][entry], abs=1e-10)
        assert float(got.discount[t, b]) == pytest.approx(
            golden["discount"][entry] * (1 - golden["term"][entry]), abs=1e-10
        )


def test_a_transition_is_what_was_seen_where_it_begins_and_after_its_last_step() -> None:
    rollout = random_rollout(DISCRETE, n_steps=5, n_rows=3)
    legal = torch.rand(2, 5, 3, DISCRETE.n_agents, DISCRETE.action_dim, generator=generator()) < 0.5
    steps: Step = rollout.steps._replace(legal=legal[0], next_legal=legal[1])
    latent = TaskLatent(draw(6, 3, 2), draw(6, 3, DISCRETE.n_agents, 2))
    got = returns(steps.reward, 2, truncated=steps.truncated)  # episodes of four steps
    index = torch.tensor([0, 11, 13])  # steps 0, 3 and 4, of rows 0, 2 and 1
    batch = transitions(steps, latent, got, index)
    for i, (t, b, last) in enumerate([(0, 0, 1), (3, 2, 3), (4, 1, 4)]):
        assert got.last[t, b] == last
        for name in ("obs", "state", "action", "legal", "alive"):
            assert torch.equal(getattr(batch, name)[i], getattr(steps, name)[t, b]), name
        for name in ("next_obs", "next_state", "next_legal", "next_alive"):
            assert torch.equal(getattr(batch, name)[i], getattr(steps, name)[last, b]), name
        for part in range(2):
            assert torch.equal(batch.latent[part][i], latent[part][t, b])
            assert torch.equal(batch.next_latent[part][i], latent[part][last + 1, b])
        assert torch.equal(batch.value[i], got.value[t, b]) and torch.equal(batch.discount[i], got.discount[t, b])
