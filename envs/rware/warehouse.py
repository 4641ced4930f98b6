"""B warehouses stepped together, compiled for the CPU: rware 2.0's rules but for movement, and what agents see.

After all have moved (``movement``), agents turn, pick shelves up and put them down; then goals are looked at, in the
layout's order. A delivered shelf is no longer requested, another is, and it stays on its agent until that puts it down
where there is no aisle. Nothing is drawn here: chances are given. With several colours of shelves, which rware has not,
shelf number s has colour (s - 1) mod n_colours, counts where its own agents deliver it, and is followed in the queue by
another of its colour. An agent sees itself (x, y, whether it carries, direction as one-hot, whether it is in an aisle),
then, row by row, each cell around it: an agent, its direction (or up, where there is none), a shelf, and for each
colour whether it is a requested one of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from envs.core import EnvSpec
from envs.rware.floor import (
    DOWN,
    LEFT,
    N_ACTIONS,
    N_DIRECTIONS,
    RIGHT,
    TO_LEFT,
    TO_RIGHT,
    TOGGLE_LOAD,
    UP,
    Array,
    Floor,
    Plan,
    Rules,
)

SELF_SIZE = 4 + N_DIRECTIONS
PLACE_SIZE = 2 + N_DIRECTIONS  # of a cell seen, and as many more as there are colours
REQUEST_SIZE = 3  # of the state: x, y, whether it is carried

CLOCKWISE = np.array([TO_RIGHT, TO_LEFT, UP, DOWN])
ANTICLOCKWISE = np.array([TO_LEFT, TO_RIGHT, DOWN, UP])
GLOBAL, INDIVIDUAL, TWO_STAGE = range(3)  # places in REWARDS
STAGE_REWARD = 0.5  # of two stages: for delivering, and for putting the shelf away


class Start(NamedTuple):
    """How episodes of all rows would start."""

    task: Array  # (B,) int64
    cell: Array  # (B, N) int64       of each agent
    direction: Array  # (B, N) int64
    queue: Array  # (B, Q) int64      shelves requested, numbered from 1


class Outcome(NamedTuple):
    """Of a step, written by it."""

    reward: Array  # (B, N) float32    zeros before
    terminated: Array  # (B,) bool
    truncated: Array  # (B,) bool


def spec_of(rules: Rules) -> EnvSpec:
    obs_dim = SELF_SIZE + (2 * rules.sensor_range + 1) ** 2 * (PLACE_SIZE + rules.n_colours)
    return EnvSpec(
        n_agents=rules.n_agents,
        obs_dim=obs_dim,
        state_dim=rules.n_agents * obs_dim + REQUEST_SIZE * rules.n_requests,
        action_dim=N_ACTIONS,
        is_discrete=True,
        episode_steps=rules.max_steps,
    )


@njit(cache=True, nogil=True)
def begin(floor: Floor, plan: Plan, where: Array, start: Start) -> None:
    """Start an episode in the rows where ``where`` (B,) bool is True."""
    for b in range(len(where)):
        if not where[b]:
            continue
        task = start.task[b]
        layout = plan.layout[task]
        floor.task[b], floor.elapsed[b], floor.inactive[b] = task, 0, 0
        floor.agent_at[b], floor.shelf_at[b] = 0, 0
        floor.carried[b], floor.has_delivered[b], floor.is_requested[b] = 0, False, False
        for s in range(plan.n_shelves[layout]):
            floor.shelf_cell[b, s + 1] = plan.homes[layout, s]
            floor.shelf_at[b, plan.homes[layout, s]] = s + 1
        for i in range(floor.cell.shape[1]):
            floor.cell[b, i], floor.direction[b, i] = start.cell[b, i], start.direction[b, i]
            floor.agent_at[b, start.cell[b, i]] = i + 1
        for k in range(floor.queue.shape[1]):
            floor.queue[b, k] = start.queue[b, k]
            floor.is_requested[b, start.queue[b, k]] = True


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _deliver(b: int, floor: Floor, plan: Plan, rules: Rules, given: tuple[Array, Array]) -> int:
    """Number of deliveries."""
    chance, reward = given
    task, n_delivered = floor.task[b], 0
    for goal in plan.goals[plan.layout[task]]:
        shelf = floor.shelf_at[b, goal] if goal >= 0 else np.int16(0)
        if not floor.is_requested[b, shelf]:
            continue
        i = floor.agent_at[b, goal] - 1
        if rules.n_colours > 1 and (shelf - 1) % rules.n_colours != plan.colour[task, i]:
            continue
        _request_another(b, floor, plan, rules, (shelf, chance[n_delivered]))
        n_delivered += 1
        if rules.reward == GLOBAL:
            reward += 1
        elif rules.reward == INDIVIDUAL:
            reward[i] += 1
        else:
            reward[i] += STAGE_REWARD
            floor.has_delivered[b, i] = True
    return n_delivered


@njit(cache=True, nogil=True)
def _request_another(b: int, floor: Floor, plan: Plan, rules: Rules, delivered: tuple[int, float]) -> None:
    """Put another shelf of the delivered one's colour in its place of the queue."""
    shelf, chance = delivered
    first, n_shelves = (shelf - 1) % rules.n_colours + 1, plan.n_shelves[plan.layout[floor.task[b]]]
    n_candidates = 0
    for s in range(first, n_shelves + 1, rules.n_colours):
        n_candidates += not floor.is_requested[b, s]
    left = int(np.float64(chance) * n_candidates)
    for s in range(first, n_shelves + 1, rules.n_colours):
        if floor.is_requested[b, s]:
            continue
        if left == 0:
            break
        left -= 1
    for k in range(floor.queue.shape[1]):
        if floor.queue[b, k] == shelf:
            floor.queue[b, k] = s
    floor.is_requested[b, shelf], floor.is_requested[b, s] = False, True


@njit(cache=True, nogil=True)
def observe(floor: Floor, plan: Plan, rules: Rules, obs: Array, state: Array) -> None:
    """Write observations (B, N, obs_size) and states (B, state_size), both float32 zeros before.

    The state is all agents' observations, then x and y of each requested shelf and whether it is carried.
    """
    n_rows, n, width = obs.shape
    for b in range(n_rows):
        for i in range(n):
            _look(b, i, floor, (plan, rules), obs[b, i])
            state[b, i * width : (i + 1) * width] = obs[b, i]
        at = n * width
        for shelf in floor.queue[b]:
            cell = floor.shelf_cell[b, shelf]
            carrier = floor.agent_at[b, cell]
            state[b, at], state[b, at + 1] = plan.where[cell, 0], plan.where[cell, 1]
            state[b, at + 2] = carrier > 0 and floor.carried[b, carrier - 1] == shelf
            at += REQUEST_SIZE


@njit(cache=True, nogil=True)
def _look(b: int, i: int, floor: Floor, tables: tuple[Plan, Rules], obs: Array) -> None:
    """What agent i sees."""
    plan, rules = tables
    cell, seen, stride = np.int64(floor.cell[b, i]), rules.sensor_range, plan.ahead[DOWN]
    obs[0], obs[1] = plan.where[cell, 0], plan.where[cell, 1]
    obs[2] = floor.carried[b, i] > 0
    obs[3 + floor.direction[b, i]] = 1
    obs[3 + N_DIRECTIONS] = plan.is_highway[plan.layout[floor.task[b]], cell]
    at, of_shelf = SELF_SIZE, 1 + N_DIRECTIONS
    for row in range(-seen, seen + 1):
        for there in range(cell + row * stride - seen, cell + row * stride + seen + 1):
            other, shelf = floor.agent_at[b, there], floor.shelf_at[b, there]
            if other:
                obs[at] = 1
                obs[at + 1 + floor.direction[b, other - 1]] = 1
            else:
                obs[at + 1 + UP] = 1
            if shelf:
                obs[at + of_shelf] = 1
                if floor.is_requested[b, shelf]:
                    obs[at + of_shelf + 1 + (shelf - 1) % rules.n_colours] = 1
            at += PLACE_SIZE + rules.n_colours
