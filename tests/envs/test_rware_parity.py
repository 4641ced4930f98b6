"""Are our warehouses rware's, step by step? State, observations, rewards and ends, given the reference's draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
import rware  # noqa: F401, because it registers what gymnasium makes
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rware.warehouse import RewardType

from envs.rware.family import PAPERS_LAYOUTS, Registered, RegisteredConfig
from envs.rware.floor import FORWARD, REWARDS, TOGGLE_LOAD, Rules, tuple_hash
from envs.rware.layout import SIZES, Layout, parse_layout, read_layouts, registered
from envs.rware.movement import _as_in_a_set
from tests.envs.warehouses import Pair, rules_of

GLOBAL, TWO_STAGE = REWARDS.index("global"), REWARDS.index("two-stage")
TINY, SMALL, MEDIUM = (registered(f"{size}-4ag").layout for size in ("tiny", "small", "medium"))
CLOSET = parse_layout("g.x\n.xx\n...")
CLUTTER = parse_layout("g.x.xg\n.xxxx.\nx....x\n..gg..")
HALL = parse_layout(".............\n.x.x.x.x.x.x.\n.............\n.............\n.............\ng...........g")
PAID = ("unlike each other", "clutter", "clutter, blind")  # even in short: by each of the three rewards
N_STEPS = 60  # of each row in a short test
N_SLOW = 200_000  # transitions, over all cases


class Case(NamedTuple):
    layouts: Sequence[Layout]  # a row each
    rules: Rules


CASES = {
    "tiny, one agent": Case([TINY] * 2, rules_of(1, 1)),
    "tiny": Case([TINY] * 2, rules_of(4, 4)),
    "tiny, seeing far": Case([TINY] * 2, rules_of(2, 4, sensor_range=3, reward=TWO_STAGE, max_steps=50)),
    "tiny, eight": Case([TINY] * 2, rules_of(8, 4, sensor_range=2, reward=GLOBAL)),
    "small": Case([SMALL] * 2, rules_of(4, 2, max_inactivity_steps=20)),
    "small, eight": Case([SMALL], rules_of(8, 8, reward=TWO_STAGE)),
    "medium, sixteen": Case([MEDIUM], rules_of(16, 16)),
    "the paper's": Case(read_layouts(PAPERS_LAYOUTS), rules_of(4, 4, sensor_range=2, max_steps=100)),
    "closet, two": Case([CLOSET] * 4, rules_of(2, 1, reward=TWO_STAGE, max_inactivity_steps=40)),
    "closet, nearly full": Case([CLOSET] * 4, rules_of(8, 2, sensor_range=3)),
    "unlike each other": Case([CLOSET, CLUTTER, HALL, TINY], rules_of(5, 2, reward=GLOBAL, sensor_range=2)),
    "clutter": Case([CLUTTER] * 4, rules_of(7, 4, reward=TWO_STAGE)),
    "clutter, blind": Case([CLUTTER] * 4, rules_of(16, 4, sensor_range=0)),
    "hall": Case([HALL] * 2, rules_of(8, 4)),
    "hall, crowded": Case([HALL] * 2, rules_of(24, 4, sensor_range=0, max_inactivity_steps=30, max_steps=30)),
}


def play(case: Case, n_steps: int, seed: int) -> Pair:
    pair = Pair(case.layouts, case.rules, seed)
    for _ in range(n_steps):
        pair.step(pair.random_actions())
    return pair


@pytest.mark.parametrize("name", CASES)
def test_a_warehouse_is_rwares(name: str) -> None:
    pair = play(CASES[name], N_STEPS, seed=0)
    assert pair.n_rewards or name not in PAID


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_warehouse_is_rwares_for_long(name: str) -> None:
    case = CASES[name]
    pair = play(case, -(-N_SLOW // len(CASES) // len(case.layouts)), seed=1)
    assert pair.n_transitions >= N_SLOW // len(CASES)
    if len(case.layouts[0].shelves) < 20:  # in larger ones, random play delivers next to nothing
        assert pair.n_rewards


@st.composite
def warehouses(draw: st.DrawFn) -> tuple[Layout, Rules]:
    width, height = draw(st.integers(2, 7)), draw(st.integers(2, 6))
    cells = draw(st.lists(st.sampled_from("..xxg"), min_size=width * height, max_size=width * height))
    cells[:3] = draw(st.permutations("xxg"))
    lines = ["".join(cells[i : i + width]) for i in range(0, len(cells), width)]
    layout = parse_layout("\n".join(lines))
    rules = rules_of(
        draw(st.integers(1, min(12, len(cells)))),
        draw(st.integers(1, len(layout.shelves) - 1)),
        sensor_range=draw(st.integers(0, 2)),
        reward=draw(st.integers(0, 2)),
        max_steps=draw(st.integers(5, 40)),
        max_inactivity_steps=draw(st.sampled_from((0, 7))),
    )
    return layout, rules


ACTION = st.sampled_from((FORWARD, FORWARD, FORWARD, 0, 2, 3, TOGGLE_LOAD))


def search(data: st.DataObject) -> None:
    layout, rules = data.draw(warehouses())
    pair = Pair([layout], rules, seed=data.draw(st.integers(0, 2**32 - 1)))
    if data.draw(st.booleans()):  # with whatever is where they start
        pair.step(torch.full((1, rules.n_agents), TOGGLE_LOAD))
    all_actions = st.lists(ACTION, min_size=rules.n_agents, max_size=rules.n_agents)
    for actions in data.draw(st.lists(all_actions, max_size=20)):
        pair.step(torch.tensor([actions]))


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_no_difference_is_found(data: st.DataObject) -> None:
    search(data)


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=2000, deadline=None)
def test_no_difference_is_found_for_long(data: st.DataObject) -> None:
    search(data)


@pytest.mark.parametrize("difficulty", ["", "-easy", "-hard"])
@pytest.mark.parametrize("size", SIZES)
def test_registrations_are_rwares(size: str, difficulty: str) -> None:
    for n_agents in (2, 5, 15):
        name = f"{size}-{n_agents}ag{difficulty}"
        env: Any = gymnasium.make(f"rware-{name}-v2", disable_env_checker=True).unwrapped
        family = Registered("warehouse", RegisteredConfig(registration=name), np.random.default_rng(0))
        layout, rules = registered(name).layout, family.rules
        marks = np.array([list(line) for line in layout.lines])
        assert ((marks != "x") == env.highways).all()
        assert list(layout.goals) == env.goals
        assert (rules.n_agents, rules.n_requests) == (env.n_agents, env.request_queue_size)
        assert (rules.sensor_range, rules.max_steps, rules.max_inactivity_steps) == (1, 500, 0)
        assert (env.sensor_range, env.max_steps, env.max_inactivity_steps) == (1, 500, None)
        assert env.reward_type is RewardType.INDIVIDUAL and REWARDS[rules.reward] == "individual"
        assert family.spec.obs_dim == env.observation_space[0].shape[0]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=150, unique=True))
@settings(max_examples=200, deadline=None)
def test_cells_are_ordered_as_in_cpythons_sets(cells: list[tuple[int, int]]) -> None:
    """Where networkx walks through a set of cells, ties follow from its order."""
    assert all(tuple_hash(*cell) == hash(cell) % 2**64 for cell in cells)
    hashes = np.array([tuple_hash(*cell) for cell in cells], dtype=np.uint64)
    nodes = np.arange(len(cells))
    filled: set[tuple[int, int]] = set()
    for cell in cells:  # one by one, as a search does; a set made of a list would be the same, of a set not
        filled.add(cell)
    _as_in_a_set(nodes, hashes)
    assert [cells[node] for node in nodes] == list(filled)
    _as_in_a_set(nodes, hashes)
    assert [cells[node] for node in nodes] == list(set(iter(filled)))
