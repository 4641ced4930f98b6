"""Are coloured warehouses the published ones, and can their colours be found from what comes of actions?"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from envs.core import Observation, StepResult
from envs.rware.floor import NOOP
from envs.rware.published import Published, PublishedConfig
from envs.rware.published_batch import PublishedBatch
from envs.rware.warehouse import Start

GOLDEN = Path(__file__).parents[1] / "golden"
CPU = torch.device("cpu")


def published(registration: str = "tiny-4ag", seed: int = 0, **settings: Any) -> Published:
    config = PublishedConfig(registration=registration, **settings)
    return Published("rware-color-published", config, np.random.default_rng(seed))


def batch(family: Published, n_rows: int, seed: int = 0) -> PublishedBatch:
    return family.make(n_rows, CPU, torch.Generator().manual_seed(seed))


class Replayed(NamedTuple):
    """Recorded episodes, and a row for each."""

    data: dict[str, NDArray[Any]]
    family: Published
    rows: PublishedBatch

    def cells(self, xy: NDArray[Any]) -> NDArray[Any]:
        where = self.rows.plan.where
        numbers = {tuple(at): cell for cell, at in enumerate(where.tolist())}
        return np.array([numbers[tuple(at)] for at in xy.reshape(-1, 2).tolist()]).reshape(xy.shape[:-1])

    def chances(self, t: int) -> NDArray[np.float32]:
        """At which the shelves are drawn that were requested in step t: (E, 2), in the order of goals."""
        chance = np.zeros((len(self.data["queue"]), 2), np.float32)
        for row, (queue, after) in enumerate(self.data["queue"][:, t : t + 2].tolist()):
            at = self.data["shelf_xy"][row, t + 1]
            slots = [slot for slot, shelf in enumerate(queue) if shelf != after[slot]]
            goals = self.data["goals_xy"].tolist()
            slots.sort(key=lambda slot: goals.index(at[queue[slot] - 1].tolist()))
            for k, slot in enumerate(slots):
                candidates = [shelf for shelf in range(1, len(at) + 1) if shelf not in queue]
                chance[row, k] = (candidates.index(after[slot]) + 0.5) / len(candidates)
                queue[slot] = after[slot]
        return chance

    def start(self) -> Observation:
        data, n_rows = self.data, len(self.data["queue"])
        first = (self.cells(data["agent_xy"][:, 0]), data["agent_dir"][:, 0], data["queue"][:, 0], data["shelf_colour"])
        self.rows.place(np.ones(n_rows, np.bool_), Start(np.zeros(n_rows, np.int64), *first))
        return self.rows.reset(torch.zeros(n_rows, dtype=torch.int64), torch.zeros(n_rows, dtype=torch.bool))

    def compare(self, t: int, result: Observation | StepResult) -> None:
        data, floor = self.data, self.rows.floor
        assert (floor.cell == self.cells(data["agent_xy"][:, t])).all()
        assert (floor.direction == data["agent_dir"][:, t]).all()
        assert (floor.carried == data["carried"][:, t]).all()
        assert (floor.shelf_cell[:, 1:] == self.cells(data["shelf_xy"][:, t])).all()
        assert (floor.queue == data["queue"][:, t]).all()
        order = data["obs_perm"][data["agent_colour"]]  # (N, D)
        expected = np.take_along_axis(data["obs_plain"][:, t], np.broadcast_to(order, result.obs.shape), -1)
        np.testing.assert_allclose(result.obs.numpy(), expected, atol=1e-6, rtol=0)


def replayed(name: str) -> Replayed:
    data = dict(np.load(GOLDEN / f"rware_2color_{name.replace('-', '_')}.npz").items())
    family = published(name)
    family.orders = data["obs_perm"]
    return Replayed(data, family, batch(family, len(data["queue"])))


@pytest.mark.parametrize(("name", "n_paid"), [("tiny-4ag", 33), ("small-8ag", 18)])
def test_states_observations_and_rewards_are_the_recorded_ones(name: str, n_paid: int) -> None:
    play = replayed(name)
    data, family, rows = play
    assert family.true_groups == tuple(data["agent_colour"].tolist())
    assert family._jobs[0].layout.goals == tuple(map(tuple, data["goals_xy"].tolist()))
    assert family._jobs[0].layout.shelves == tuple(map(tuple, data["shelf_home_xy"].tolist()))
    play.compare(0, play.start())
    total = 0.0
    for t in range(data["action"].shape[1]):
        action = torch.from_numpy(data["action"][:, t].astype(np.int64))
        result = rows.step_with(action, torch.from_numpy(play.chances(t)))
        play.compare(t + 1, result)
        np.testing.assert_allclose(result.reward.numpy(), data["reward"][:, t], atol=1e-6, rtol=0)
        assert (result.terminated.numpy() == data["done"][:, t]).all() and not result.truncated.any()
        total += float(result.reward.sum())
    assert total == n_paid and data["wrong_on_goal"].any()


def test_the_first_colour_has_the_agents_left_over() -> None:
    assert published("tiny-5ag", n_colours=3).true_groups == (0, 0, 0, 1, 2)
    assert published("small-7ag", n_colours=2).true_groups == (0, 0, 0, 0, 1, 1, 1)


@pytest.mark.parametrize(("registration", "n_requests"), [("tiny-4ag-easy", 8), ("tiny-4ag", 4), ("tiny-4ag-hard", 2)])
def test_difficulty_is_how_many_are_requested(registration: str, n_requests: int) -> None:
    assert published(registration).rules.n_requests == n_requests


def test_one_order_of_each_colour_holds_in_all_rows_and_batches_of_a_task() -> None:
    """It is drawn with the task, not with each environment, so that rows agree."""
    family = published()
    assert family.tasks[0].params["orders"] == family.orders.tolist() != published(seed=1).orders.tolist()
    assert (np.sort(family.orders, axis=1) == np.arange(44)).all() and len(np.unique(family.orders, axis=0)) == 2
    rows = batch(family, 50)
    obs = rows.reset(torch.zeros(50, dtype=torch.int64)).obs.numpy()
    for agent, colour in enumerate(family.true_groups):
        x = obs[:, agent, family.orders[colour].tolist().index(0)]
        assert (x == rows.plan.where[rows.floor.cell[:, agent], 0]).all()


def test_shelves_have_colours_anew_at_each_start_and_any_may_be_requested() -> None:
    rows = batch(published(n_colours=3, episode_steps=3), 2000)
    rows.reset(torch.zeros(2000, dtype=torch.int64))
    colour, queue = rows.floor.shelf_colour[:, 1:].copy(), rows.floor.queue
    n_shelves = colour.shape[1]
    for c in range(3):
        assert abs(float((colour == c).mean()) - 1 / 3) < 0.01
    assert all(len(set(requests)) == 4 for requests in queue.tolist())
    counts = np.bincount(queue.ravel(), minlength=n_shelves + 1)[1:]
    assert (np.abs(counts - 8000 / n_shelves) < 6 * (8000 / n_shelves) ** 0.5).all()
    wanted = np.take_along_axis(colour, queue - 1, axis=1)
    alike = float((wanted == wanted[:, :1]).all(axis=1).mean())  # all of one colour
    assert alike == pytest.approx(1 / 27, abs=0.02)
    restarted = torch.arange(2000) < 1000
    rows.reset(torch.zeros(2000, dtype=torch.int64), restarted)
    is_same = (rows.floor.shelf_colour[:, 1:] == colour).all(axis=1)
    assert is_same[1000:].all() and not is_same[:1000].any()


def test_the_time_limit_is_the_end() -> None:
    rows = batch(published(episode_steps=2), 1)
    rows.reset(torch.zeros(1, dtype=torch.int64))
    results = [rows.step(torch.full((1, 4), NOOP)) for _ in range(2)]
    assert [(bool(r.terminated), bool(r.truncated)) for r in results] == [(False, False), (True, False)]


def test_the_state_says_where_requested_shelves_are_and_their_colours() -> None:
    rows = batch(published(), 3)
    shown = rows.reset(torch.zeros(3, dtype=torch.int64))
    of_agents, of_requests = shown.state[:, : 4 * 44], shown.state[:, 4 * 44 :].view(3, 4, 5)
    assert torch.equal(of_agents, shown.obs.flatten(1))
    floor = rows.floor
    for row in range(3):
        places = rows.plan.where[floor.shelf_cell[row, floor.queue[row]]]
        assert of_requests[row, :, :2].tolist() == places.tolist() and not of_requests[row, :, 2].any()
        assert of_requests[row, :, 3:].argmax(-1).tolist() == floor.shelf_colour[row, floor.queue[row]].tolist()


def test_more_colours_than_agents_are_refused() -> None:
    with pytest.raises(ValueError, match="n_colours=5 is more than the 4 agents of tiny-4ag"):
        published(n_colours=5)
