"""B warehouses stepped together, compiled for the CPU: rware 2.0's rules but for movement, and what agents see.

After all have moved (``movement``), agents turn, pick shelves up and put them down; then goals are looked at, in the
layout's order. A delivered shelf is no longer requested, another is, and it stays on its agent until that puts it down
where there is no aisle. Nothing is drawn here: chances are given. With several colours of shelves, which rware has not,
shelf number s has colour (s - 1) mod n_colours, unless its row's start says otherwise, counts where its own agents
deliver it, and is followed in the queue by another of its colour, unless any colour may follow. An agent sees itself
(x, y, whether it carries, direction as one-hot, whether it is in an aisle), then, row by row, each cell around it: an
agent, its direction (or up, where there is none), a shelf, and for each colour whether it is a requested one of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from envs.rware.compiled import kernel
from envs.rware.floor import (
    DOWN,
    GLOBAL,
    INDIVIDUAL,
    LEFT,
    N_DIRECTIONS,
    PLACE_SIZE,
    REQUEST_SIZE,
    RIGHT,
    SELF_SIZE,
    TO_LEFT,
    TO_RIGHT,
    TOGGLE_LOAD,
    TWO_STAGE,
    UP,
    Array,
    Floor,
    Plan,
    Rules,
)

CLOCKWISE = np.array([TO_RIGHT, TO_LEFT, UP, DOWN])
ANTICLOCKWISE = np.array([TO_LEFT, TO_RIGHT, DOWN, UP])
STAGE_REWARD = 0.5  # of two stages: for delivering, and for putting the shelf away


class Start(NamedTuple):
    """How episodes of all rows would start."""

    task: Array  # (B,) int64
    cell: Array  # (B, N) int64       of each agent
    direction: Array  # (B, N) int64
    queue: Array  # (B, Q) int64      shelves requested, numbered from 1
    shelf_colour: Array | None = None  # (B, S) int64   None: as before, which is by number at first


class Outcome(NamedTuple):
    """Of a step, written by it."""

    reward: Array  # (B, N) float32    zeros before
    terminated: Array  # (B,) bool
    truncated: Array  # (B,) bool


def begin(floor: Floor, plan: Plan, where: Array, start: Start) -> None:
    """Start an episode in the rows where ``where`` (B,) bool is True."""
    rows = np.flatnonzero(where)
    every, task = rows[:, None], start.task[rows]
    for field in (floor.agent_at, floor.shelf_at, floor.carried, floor.has_delivered, floor.is_requested):
        field[rows] = 0
    floor.task[rows], floor.elapsed[rows], floor.inactive[rows] = task, 0, 0
    floor.cell[rows], floor.direction[rows], floor.queue[rows] = (
        start.cell[rows],
        start.direction[rows],
        start.queue[rows],
    )
    floor.agent_at[every, floor.cell[rows]] = np.arange(1, floor.cell.shape[1] + 1)
    floor.is_requested[every, floor.queue[rows]] = True
    if start.shelf_colour is not None:
        floor.shelf_colour[rows, 1:] = start.shelf_colour[rows]
    homes = plan.homes[plan.layout[task]]  # (rows, S)
    floor.shelf_cell[rows, 1:] = homes
    place, shelf = np.nonzero(homes >= 0)
    floor.shelf_at[rows[place], homes[place, shelf]] = shelf + 1


@kernel
def work(floor: Floor, plan: Plan, rules: Rules, given: tuple[Array, Array], out: Outcome) -> None:
    """Turn, load, deliver, and pay. ``given``: actions (B, N) int64, and chances in [0, 1) (B, D) for new requests.

    The k-th delivery of a step is followed by the request of the shelf that stands at its chance among the candidates,
    which are the shelves that are not requested, by number. D is as many as can be delivered at once.
    """
    action, chance = given
    for b in range(len(action)):
        _handle(b, floor, plan, rules, (action[b], out.reward[b]))
        floor.elapsed[b] += 1
        floor.inactive[b] = 0 if _deliver(b, floor, plan, rules, (chance[b], out.reward[b])) else floor.inactive[b] + 1
        out.terminated[b] = rules.max_inactivity_steps > 0 and floor.inactive[b] >= rules.max_inactivity_steps
        out.truncated[b] = floor.elapsed[b] >= rules.max_steps and not out.terminated[b]


@kernel
def _handle(b: int, floor: Floor, plan: Plan, rules: Rules, given: tuple[Array, Array]) -> None:
    action, reward = given
    is_highway = plan.is_highway[plan.layout[floor.task[b]]]
    for i in range(len(action)):
        if action[i] == LEFT:
            floor.direction[b, i] = ANTICLOCKWISE[floor.direction[b, i]]
        elif action[i] == RIGHT:
            floor.direction[b, i] = CLOCKWISE[floor.direction[b, i]]
        elif action[i] == TOGGLE_LOAD and not floor.carried[b, i]:
            floor.carried[b, i] = floor.shelf_at[b, floor.cell[b, i]]
        elif action[i] == TOGGLE_LOAD and not is_highway[floor.cell[b, i]]:
            floor.carried[b, i] = 0
            if floor.has_delivered[b, i] and rules.reward == TWO_STAGE:
                reward[i] += STAGE_REWARD
            floor.has_delivered[b, i] = False


@kernel
def _deliver(b: int, floor: Floor, plan: Plan, rules: Rules, given: tuple[Array, Array]) -> int:
    """Number of deliveries."""
    chance, reward = given
    task, n_delivered = floor.task[b], 0
    for goal in plan.goals[plan.layout[task]]:
        shelf = floor.shelf_at[b, goal] if goal >= 0 else np.int32(0)
        if not floor.is_requested[b, shelf]:
            continue
        i = floor.agent_at[b, goal] - 1
        if floor.shelf_colour[b, shelf] != plan.colour[task, i]:
            continue
        _request_another(b, floor, plan, rules, (int(shelf), float(chance[n_delivered])))
        n_delivered += 1
        if rules.reward == GLOBAL:
            for everyone in range(len(reward)):
                reward[everyone] += 1
        elif rules.reward == INDIVIDUAL:
            reward[i] += 1
        else:
            reward[i] += STAGE_REWARD
            floor.has_delivered[b, i] = True
    return n_delivered


@kernel
def _request_another(b: int, floor: Floor, plan: Plan, rules: Rules, delivered: tuple[int, float]) -> None:
    """Put another shelf, where shares are kept of the delivered one's colour, in its place of the queue."""
    shelf, chance = delivered
    colour, n_shelves = floor.shelf_colour[b], plan.n_shelves[plan.layout[floor.task[b]]]
    n_candidates = 0
    for s in range(1, n_shelves + 1):
        n_candidates += not floor.is_requested[b, s] and not (rules.keeps_shares and colour[s] != colour[shelf])
    left = int(chance * n_candidates)
    for s in range(1, n_shelves + 1):
        if floor.is_requested[b, s] or (rules.keeps_shares and colour[s] != colour[shelf]):
            continue
        if left == 0:
            break
        left -= 1
    for k in range(floor.queue.shape[1]):
        if floor.queue[b, k] == shelf:
            floor.queue[b, k] = s
    floor.is_requested[b, shelf], floor.is_requested[b, s] = False, True


@kernel
def observe(floor: Floor, plan: Plan, rules: Rules, obs: Array, state: Array) -> None:
    """Write observations (B, N, obs_dim) and states (B, state_dim), both float32 zeros before.

    The state is all agents' observations, then x and y of each requested shelf and whether it is carried.
    """
    n_rows, n, width = obs.shape
    for b in range(n_rows):
        for i in range(n):
            _look(b, i, floor, (plan, rules), obs[b, i])
            for place in range(width):
                state[b, i * width + place] = obs[b, i, place]
        where_requests_are(b, floor, plan, REQUEST_SIZE, state[b, n * width :])


@kernel
def where_requests_are(b: int, floor: Floor, plan: Plan, size: int, state: Array) -> None:
    """Write x and y of each requested shelf, and whether it is carried, to the first of its ``size`` places."""
    at = 0
    for shelf in floor.queue[b]:
        cell = floor.shelf_cell[b, shelf]
        carrier = floor.agent_at[b, cell]
        state[at], state[at + 1] = plan.where[cell, 0], plan.where[cell, 1]
        state[at + 2] = carrier > 0 and floor.carried[b, carrier - 1] == shelf
        at += size


@kernel
def _look(b: int, i: int, floor: Floor, tables: tuple[Plan, Rules], obs: Array) -> None:
    """What agent i sees."""
    plan, rules = tables
    cell, seen, stride = np.int64(floor.cell[b, i]), rules.sensor_range, plan.ahead[DOWN]
    look_at_oneself(b, i, floor, plan, obs)
    at, of_shelf = SELF_SIZE, 1 + N_DIRECTIONS
    for row in range(-seen, seen + 1):
        for there in range(cell + row * stride - seen, cell + row * stride + seen + 1):
            other, shelf = floor.agent_at[b, there], floor.shelf_at[b, there]
            if other:
                obs[at] = 1
                obs[at + 1 + int(floor.direction[b, other - 1])] = 1
            else:
                obs[at + 1 + UP] = 1
            if shelf:
                obs[at + of_shelf] = 1
                if floor.is_requested[b, shelf]:
                    obs[at + of_shelf + 1 + int(floor.shelf_colour[b, shelf])] = 1
            at += PLACE_SIZE + rules.n_colours


@kernel
def look_at_oneself(b: int, i: int, floor: Floor, plan: Plan, obs: Array) -> None:
    """What agent i sees of itself, to the first SELF_SIZE places."""
    cell = floor.cell[b, i]
    obs[0], obs[1] = plan.where[cell, 0], plan.where[cell, 1]
    obs[2] = floor.carried[b, i] > 0
    obs[3 + int(floor.direction[b, i])] = 1
    obs[3 + N_DIRECTIONS] = plan.is_highway[plan.layout[floor.task[b]], cell]
