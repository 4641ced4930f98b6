"""What the kernels read and write: layouts as tables (``Plan``), and the state of B warehouses (``Floor``).

A cell is one number, ``(y + margin) * stride + x + margin``: grids of all layouts are padded to a common size, with a
margin as wide as agents see, so that what is beyond a warehouse needs no special case.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.core import EnvSpec
from envs.rware.layout import Layout

Array = NDArray[Any]

NOOP, FORWARD, LEFT, RIGHT, TOGGLE_LOAD = range(5)  # actions, numbered as in rware
UP, DOWN, TO_LEFT, TO_RIGHT = range(4)  # directions, numbered as in rware
N_ACTIONS, N_DIRECTIONS = 5, 4
SELF_SIZE = 4 + N_DIRECTIONS  # of what an agent sees: itself
PLACE_SIZE = 2 + N_DIRECTIONS  # a cell, and as many more as there are colours
REQUEST_SIZE = 3  # of the state: x, y, whether it is carried
REWARDS = ("global", "individual", "two-stage")
GLOBAL, INDIVIDUAL, TWO_STAGE = range(len(REWARDS))

_PRIME_1, _PRIME_2, _PRIME_5 = 11400714785074694791, 14029467366897019727, 2870177450012600261
_WORD = 2**64


class Rules(NamedTuple):
    """What is the same in all rows."""

    n_agents: int
    n_requests: int
    n_colours: int  # of shelves; an agent delivers those of its own. 1: rware
    sensor_range: int  # cells to each side
    reward: int  # place in REWARDS
    max_steps: int
    max_inactivity_steps: int  # without a delivery; 0: any number
    keeps_shares: bool = True  # what follows a delivery has its colour; False: any


class Plan(NamedTuple):
    """Layouts, L of them, and what each of K tasks is. Cells: P."""

    is_inside: Array  # (L, P) bool
    is_highway: Array  # (L, P) bool      shelves cannot be put down here
    goals: Array  # (L, G) int64           cells, in rware's order; -1: there is none
    homes: Array  # (L, S) int64           cell of each shelf at the start; -1: there is none
    n_shelves: Array  # (L,) int64
    where: Array  # (P, 2) int64           x and y
    hashes: Array  # (P,) uint64           CPython's hash of the tuple (x, y)
    ahead: Array  # (4,) int64             what is added to a cell by a step in each direction
    layout: Array  # (K,) int64            of each task
    colour: Array  # (K, N) int64          that each agent delivers


class Floor(NamedTuple):
    """The state of B warehouses, changed in place. In grids, agents and shelves are numbered from 1."""

    task: Array  # (B,) int64
    agent_at: Array  # (B, P) int32
    shelf_at: Array  # (B, P) int32        carried ones too
    cell: Array  # (B, N) int32            of each agent
    direction: Array  # (B, N) int8
    carried: Array  # (B, N) int32         shelf, or 0
    has_delivered: Array  # (B, N) bool    since it put a shelf down
    shelf_cell: Array  # (B, S + 1) int32  where each shelf is; of 0: nothing
    shelf_colour: Array  # (B, S + 1) int8   of 0: nothing
    queue: Array  # (B, Q) int32           shelves that are requested
    is_requested: Array  # (B, S + 1) bool
    elapsed: Array  # (B,) int64           steps since the episode's start
    inactive: Array  # (B,) int64          steps since the last delivery


def plan_of(layouts: Sequence[Layout], layout: Sequence[int], colour: Sequence[Sequence[int]], margin: int) -> Plan:
    """Tables of ``layouts``; ``layout`` and ``colour`` say, of each task, which it is and who delivers what."""
    height = max(entry.height for entry in layouts) + 2 * margin
    stride = max(entry.width for entry in layouts) + 2 * margin
    n_goals, n_shelves = max(len(entry.goals) for entry in layouts), max(len(entry.shelves) for entry in layouts)
    y, x = np.divmod(np.arange(height * stride), stride)
    where = np.stack((x, y), axis=1) - margin
    size = np.array([(entry.width, entry.height) for entry in layouts])[:, None]  # (L, 1, 2)
    is_inside: Array = np.all((where >= 0) & (where < size), axis=-1)  # (L, P)
    goals, homes = np.full((len(layouts), n_goals), -1), np.full((len(layouts), n_shelves), -1)
    is_highway = is_inside.copy()
    for place, entry in enumerate(layouts):
        for table, cells in ((goals, entry.goals), (homes, entry.shelves)):
            table[place, : len(cells)] = [(y + margin) * stride + x + margin for x, y in cells]
        is_highway[place, homes[place, : len(entry.shelves)]] = False
    return Plan(
        is_inside=is_inside,
        is_highway=is_highway,
        goals=goals,
        homes=homes,
        n_shelves=np.array([len(entry.shelves) for entry in layouts]),
        where=where,
        hashes=np.array([tuple_hash(x % _WORD, y % _WORD) for x, y in where.tolist()], dtype=np.uint64),
        ahead=np.array([-stride, stride, -1, 1]),
        layout=np.array(layout),
        colour=np.array(colour),
    )


def spec_of(rules: Rules) -> EnvSpec:
    obs_dim = SELF_SIZE + (2 * rules.sensor_range + 1) ** 2 * (PLACE_SIZE + rules.n_colours)
    return EnvSpec(
        n_agents=rules.n_agents,
        obs_dim=obs_dim,
        state_dim=rules.n_agents * obs_dim + REQUEST_SIZE * rules.n_requests,
        action_dim=N_ACTIONS,
        is_discrete=True,
        episode_steps=rules.max_steps,
        shared_reward=rules.reward == GLOBAL,
    )


def empty_floor(plan: Plan, rules: Rules, n_rows: int) -> Floor:
    n_cells, n_shelves = len(plan.where), plan.homes.shape[1]
    by_number = ((np.arange(n_shelves + 1) - 1) % rules.n_colours).astype(np.int8)

    def zeros(width: int, dtype: type) -> Array:
        return np.zeros((n_rows, width), dtype)

    return Floor(
        task=np.zeros(n_rows, np.int64),
        agent_at=zeros(n_cells, np.int32),
        shelf_at=zeros(n_cells, np.int32),
        cell=zeros(rules.n_agents, np.int32),
        direction=zeros(rules.n_agents, np.int8),
        carried=zeros(rules.n_agents, np.int32),
        has_delivered=zeros(rules.n_agents, np.bool_),
        shelf_cell=zeros(n_shelves + 1, np.int32),
        shelf_colour=np.tile(by_number, (n_rows, 1)),
        queue=zeros(rules.n_requests, np.int32),
        is_requested=zeros(n_shelves + 1, np.bool_),
        elapsed=np.zeros(n_rows, np.int64),
        inactive=np.zeros(n_rows, np.int64),
    )


def tuple_hash(*items: int) -> int:
    """CPython's hash of a tuple of small numbers, as an unsigned word of 64 bits (xxHash's lanes, since 3.8)."""
    acc = _PRIME_5
    for item in items:
        acc = (acc + item * _PRIME_2) % _WORD
        acc = (acc << 31 | acc >> 33) % _WORD
        acc = acc * _PRIME_1 % _WORD
    return (acc + (len(items) ^ _PRIME_5 ^ 3527539)) % _WORD
