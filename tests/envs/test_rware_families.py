"""Do warehouse families hide what they say, split it, and pay for it?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from envs import ENVS, make_family
from envs.check import check_family
from envs.rware.batch import WarehouseBatch
from envs.rware.family import WarehouseFamily
from envs.rware.floor import DOWN, FORWARD, NOOP, TOGGLE_LOAD
from envs.rware.layout import parse_layout
from envs.rware.picture import CELL, EMPTY_HANDED, GOAL, LOADED, PAPER, REQUESTED, SHELF
from envs.rware.warehouse import Start
from tests.envs.warehouses import batch_of, rules_of
from tests.representatives import one_per_kind

NAMES = [name for name in ENVS if name.startswith("rware-")]
LANE = parse_layout("xx\n..\ng.")  # shelves 1 and 2; a goal two steps below shelf 1


def family(name: str, seed: int = 0, **settings: Any) -> WarehouseFamily:
    made = make_family(name, replace(ENVS[name][1], **settings), np.random.default_rng(seed))
    assert isinstance(made, WarehouseFamily)
    return made


def batch(made: WarehouseFamily, n_rows: int, seed: int = 0) -> WarehouseBatch:
    return made.make(n_rows, torch.device("cpu"), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("rware-color", {"roles": "hidden"}),
        ("rware-color", {"registration": "tiny-4ag-hard", "roles": "hidden"}),
        ("rware-color", {"registration": "small-8ag", "roles": "hidden", "n_colours": 4}),
        ("rware-color", {"registration": "medium-16ag"}),
        ("rware-layout", {"n_agents": 1, "n_requests": 1, "sensor_range": 0, "reward": "two-stage"}),
        ("rware-layout", {"max_inactivity_steps": 9, "episode_steps": 12}),
        ("rware-layout-large", {"n_train": 1, "n_test": 0, "n_ood": 1, "reward": "global"}),
    ],
)
def test_the_family_is_honest_with_other_settings(name: str, settings: dict[str, Any]) -> None:
    assert check_family(family(name, **settings)) == []


def test_sizes_are_those_of_the_paper() -> None:
    made = family("rware-layout")
    assert (made.spec.n_agents, made.spec.obs_dim, made.spec.episode_steps) == (4, 183, 100)
    assert len(made.tasks) == 5 and made.seen_only
    assert sorted(task.features for task in made.tasks) == sorted(tuple(row) for row in np.eye(5).tolist())


def test_the_fingerprint_is_this_one() -> None:
    """Of the paper's layouts: the tasks of old runs must stay what they were."""
    assert family("rware-layout").fingerprint().startswith("87ff931b6af8")
    assert family("rware-layout", sensor_range=1).fingerprint() != family("rware-layout").fingerprint()


def test_another_registration_shows_in_the_name() -> None:
    assert family("rware-tiny-4ag").name == "rware-tiny-4ag"
    assert family("rware-tiny-4ag", registration="small-8ag").name == "rware-tiny-4ag (small-8ag)"


def test_larger_layouts_are_larger_than_any_trained_on() -> None:
    made = family("rware-layout-large")
    splits = {split: [job.layout for job in made._jobs if job.task.split == split] for split in made.splits}
    assert {split: len(layouts) for split, layouts in splits.items()} == {"train": 120, "test": 24, "ood": 24}
    known = {*splits["train"], *splits["test"]}
    assert len(known) == 144
    for size in ("width", "height"):
        assert min(getattr(layout, size) for layout in splits["ood"]) > max(getattr(layout, size) for layout in known)
    for layout in (*known, *splits["ood"]):
        assert len(layout.goals) == 1 and not set(layout.goals) & set(layout.shelves)
        assert len(layout.shelves) > made.rules.n_requests


def test_more_layouts_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match="n_train=300, n_test=24, n_ood=24: there are 180 layouts to train on"):
        family("rware-layout-large", n_train=300)


def test_another_ending_rule_shows_in_the_fingerprint() -> None:
    other = family("rware-tiny-4ag", max_inactivity_steps=5)
    assert other.fingerprint() != family("rware-tiny-4ag").fingerprint()


def test_a_row_plays_the_layout_of_its_task() -> None:
    made = family("rware-layout")
    rows = batch(made, 5)
    rows.reset(torch.arange(5))
    for row, job in enumerate(made._jobs):
        assert made.tasks[row] is job.task
        shelves = rows.plan.where[rows.floor.shelf_at[row] > 0]
        assert [tuple(cell) for cell in shelves.tolist()] == list(job.layout.shelves)


def test_starts_are_spread_over_all_cells_directions_and_shelves() -> None:
    rows = batch(family("rware-layout"), 4000)
    rows.reset(torch.zeros(4000, dtype=torch.int64))
    floor, n_cells = rows.floor, 100
    assert all(len(set(cells)) == 4 for cells in floor.cell.tolist())
    assert all(len(set(queue)) == 4 for queue in floor.queue.tolist())
    for counted, n in ((floor.cell, n_cells), (floor.direction, 4), (floor.queue, 28)):
        for agent in range(4):
            counts = np.unique(counted[:, agent], return_counts=True)[1]
            expected = 4000 / n
            assert len(counts) == n and (np.abs(counts - expected) < 6 * expected**0.5).all()


def test_layouts_of_ones_own_make_tasks() -> None:
    own = "xxxx/..../g..g xxxxx/...../...../..g.."
    made = family("rware-layout", layouts=own, n_requests=2)
    assert [task.params["layout"] for task in made.tasks] == [
        ["xxxx", "....", "g..g"],
        ["xxxxx", ".....", ".....", "..g.."],
    ]
    assert check_family(made) == []
    with pytest.raises(ValueError, match=r"rware-layout, layout-1: 4 requests need more shelves than the 4 in 3 rows"):
        family("rware-layout", layouts=own)


def test_what_is_no_layout_is_refused_with_what_earlier_versions_had_there() -> None:
    with pytest.raises(ValueError, match=r"layouts=/a/b.txt: expected rows .*layout 1: row .* put what it holds in"):
        family("rware-layout", layouts="/a/b.txt")


def test_more_layouts_than_can_be_told_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="layouts: 1001 tasks of 1001 features each"):
        family("rware-layout", layouts=" ".join(["xx/g."] * 1001))


def carry_to_goal(roles: list[int], shelf: int) -> WarehouseBatch:
    """A warehouse where agent 0 is about to deliver shelf 1 or 2, both requested; agent 1 stands aside."""
    rules = rules_of(2, 2, n_colours=2)
    layout = parse_layout("xxxx\n....\ngg..")
    rows = batch_of([layout], rules)
    rows.plan.colour[0] = roles
    cells = [int(np.flatnonzero((rows.plan.where == at).all(axis=1))[0]) for at in ((shelf - 1, 0), (3, 2))]
    start = Start(np.zeros(1, np.int64), np.array([cells]), np.full((1, 2), DOWN), np.array([[1, 2]]))
    rows.place(np.ones(1, bool), start)
    for action in (TOGGLE_LOAD, FORWARD):
        rows.step(torch.tensor([[action, NOOP]]))
    return rows


@pytest.mark.parametrize("roles", [[0, 1], [1, 0]])
@pytest.mark.parametrize("shelf", [1, 2])
def test_agents_deliver_their_own_colour_alone(roles: list[int], shelf: int) -> None:
    rows = carry_to_goal(roles, shelf)
    result = rows.step(torch.tensor([[FORWARD, NOOP]]))
    is_own = roles[0] == (shelf - 1) % 2
    assert result.reward.tolist() == [[float(is_own), 0.0]]
    queue = rows.floor.queue[0].tolist()
    assert (shelf in queue) == (not is_own)
    assert [(number - 1) % 2 for number in queue] == [0, 1]  # the one that follows has its colour


def test_requested_shelves_show_their_colour_and_agents_do_not() -> None:
    """Of shelves 1 to 4, the first two are requested; agents' colours change nothing that is seen."""
    seen = []
    for roles in ([0, 1], [1, 0]):
        rows = carry_to_goal(roles, 1)
        seen.append(rows.reset(torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.bool)))
    assert torch.equal(seen[0].obs, seen[1].obs) and torch.equal(seen[0].state, seen[1].state)
    of_shelves = seen[0].obs[0, 0, 8:].view(3, 3, 8)[..., 5:]  # is there one; is it requested, by colour
    assert of_shelves.tolist()[0] == [
        [0, 0, 0],
        [0, 0, 0],
        [1, 0, 1],
    ]  # shelf 2, of the second colour
    assert of_shelves.tolist()[1] == [[0, 0, 0], [1, 1, 0], [0, 0, 0]]


def test_roles_are_split_and_even() -> None:
    made = family("rware-color", roles="hidden")
    assert {split: len(tasks) for split, tasks in made.splits.items()} == {"train": 4, "test": 2}
    assert all(sorted(task.params["colours"]) == [0, 0, 1, 1] for task in made.tasks)
    assert len({tuple(task.params["colours"]) for task in made.tasks}) == 6
    assert made.spec.agent_types == ()
    fixed = family("rware-color")
    assert fixed.spec.agent_types == fixed.true_groups == (0, 0, 1, 1) and made.true_groups == ()
    assert fixed.seen_only and fixed.tasks[0].params["colours"] == [0, 0, 1, 1]
    assert family("rware-color", roles="hidden", registration="medium-16ag").spec.n_agents == 16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_colours": 5}, "n_colours=5 is more than the 4 agents of tiny-4ag"),
        ({"n_colours": 4, "registration": "tiny-4ag-hard"}, "4 colours each need a request"),
        ({"registration": "tiny-15ag-easy", "n_colours": 4}, "4 colours each need a request, and more shelves"),
    ],
)
def test_colours_that_cannot_be_shared_out_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        family("rware-color", **settings)


def test_inactivity_terminates_and_time_truncates() -> None:
    rows = batch_of([LANE], rules_of(1, 1, max_steps=5, max_inactivity_steps=5), n_rows=1)
    late = batch_of([LANE], rules_of(1, 1, max_steps=5, max_inactivity_steps=6), n_rows=1)
    for made, expected in ((rows, (True, False)), (late, (False, True))):
        made.reset(torch.zeros(1, dtype=torch.int64))
        results = [made.step(torch.full((1, 1), NOOP)) for _ in range(5)]
        assert [(bool(r.terminated), bool(r.truncated)) for r in results] == [(False, False)] * 4 + [expected]


def test_a_picture_shows_requests_loads_and_goals() -> None:
    rows = batch_of([LANE], rules_of(1, 1), n_rows=1)
    where, ahead, first = np.ones(1, np.bool_), rows.plan.ahead, int(rows.plan.homes[0, 0])
    below = first + 2 * int(ahead[DOWN])  # the goal
    queue = np.array([[2]])
    rows.place(where, Start(np.zeros(1, np.int64), np.array([[below]]), np.array([[DOWN]]), queue))
    corner, middle = CELL // 4, CELL // 2  # within a shelf's square, beside an agent's disc

    def colours(x: int, y: int) -> tuple[str, ...]:
        """Of a cell: near its corner, and between its middle and its left edge."""
        cell = rows.scene(0)[y * CELL : (y + 1) * CELL, x * CELL : (x + 1) * CELL]
        return tuple("#" + bytes(cell[at]).hex().upper() for at in ((corner, corner), (middle, CELL // 3)))

    assert colours(0, 0) == (SHELF, SHELF) and colours(1, 0) == (REQUESTED[0], REQUESTED[0])
    assert colours(0, 2) == (GOAL, EMPTY_HANDED) and colours(1, 2) == (PAPER, PAPER)
    rows.place(where, Start(np.zeros(1, np.int64), np.array([[first]]), np.array([[DOWN]]), queue))
    rows.step(torch.full((1, 1), TOGGLE_LOAD))
    rows.step(torch.full((1, 1), FORWARD))
    assert colours(0, 0)[0] not in (SHELF, REQUESTED[0]) and colours(0, 1) == (SHELF, LOADED)


@pytest.mark.parametrize("name", one_per_kind(NAMES))
def test_a_row_is_drawn(name: str) -> None:
    rows = batch(family(name), 1)
    rows.reset(torch.zeros(1, dtype=torch.int64))
    before = rows.scene(0)
    assert before.shape[0] % 32 == before.shape[1] % 32 == 0
    for _ in range(20):
        rows.step(torch.full((1, rows.spec.n_agents), TOGGLE_LOAD))
        rows.step(torch.full((1, rows.spec.n_agents), FORWARD))
        if (rows.scene(0) != before).any():
            return
    raise AssertionError("agents that moved or loaded look as before")
