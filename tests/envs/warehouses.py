"""Warehouses for tests: rows of ours, each beside a warehouse of rware that draws what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rware.warehouse import RewardType, Warehouse
from torch import Tensor

from envs.core import Observation, StepResult
from envs.rware.batch import WarehouseBatch
from envs.rware.floor import DOWN, REWARDS, Rules, plan_of, spec_of
from envs.rware.layout import Layout
from envs.rware.warehouse import Start

ACTIONS = (0.05, 0.6, 0.1, 0.1, 0.15)  # chances: mostly forward, so that agents get in each other's way
THEIR_REWARDS = dict(zip(REWARDS, (RewardType.GLOBAL, RewardType.INDIVIDUAL, RewardType.TWO_STAGE), strict=True))


def rules_of(n_agents: int, n_requests: int, **settings: Any) -> Rules:
    """rware's rules, individual rewards and a long episode, unless ``settings`` say otherwise."""
    usual = {"n_colours": 1, "sensor_range": 1, "reward": REWARDS.index("individual"), "max_steps": 500}
    return Rules(n_agents=n_agents, n_requests=n_requests, **{**usual, "max_inactivity_steps": 0, **settings})


def batch_of(layouts: Sequence[Layout], rules: Rules, n_rows: int = 1, seed: int = 0) -> WarehouseBatch:
    """One task for each layout."""
    colour = [[agent % rules.n_colours for agent in range(rules.n_agents)]] * len(layouts)
    plan = plan_of(layouts, range(len(layouts)), colour, max(1, rules.sensor_range))
    return WarehouseBatch(spec_of(rules), plan, rules, n_rows, torch.Generator().manual_seed(seed))


class Draws:
    """Stands in for the reference's generator: new requests are drawn by the chances at hand."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self.chances: list[float] = []

    def choice(self, items: Any, size: int | None = None, replace: bool = True) -> Any:
        if size is None:
            return items[int(self.chances.pop(0) * len(items))]
        return self._generator.choice(items, size=size, replace=replace)


class Pair:
    """Rows of ours on the given layouts, each beside the reference."""

    def __init__(self, layouts: Sequence[Layout], rules: Rules, seed: int = 0) -> None:
        self.rules, self.layouts, self.n_transitions, self.n_rewards = rules, layouts, 0, 0
        for layout in layouts:
            layout.refuse(rules.n_agents, rules.n_requests)
        self.ours = batch_of(layouts, rules, len(layouts))
        self.draws = [Draws(seed + row) for row in range(len(layouts))]
        self.theirs = [reference(layout, rules) for layout in layouts]
        for env, draws in zip(self.theirs, self.draws, strict=True):
            env._np_random = draws
        self._generator = np.random.default_rng(seed)
        (self._origin,) = np.flatnonzero((self.ours.plan.where == 0).all(axis=1)).tolist()
        self.tasks = torch.arange(len(layouts))
        self.restart(np.ones(len(layouts), dtype=bool))

    def restart(self, where: NDArray[np.bool_]) -> None:
        """Start rows of both as the reference draws it."""
        n_rows, rules = len(self.layouts), self.rules
        start = Start(
            self.tasks.numpy(),
            np.zeros((n_rows, rules.n_agents), np.int64),
            np.zeros((n_rows, rules.n_agents), np.int64),
            np.ones((n_rows, rules.n_requests), np.int64),
        )
        seen = {row: self.theirs[row].reset()[0] for row in np.flatnonzero(where).tolist()}
        for row in seen:
            agents, queue = self.theirs[row].agents, self.theirs[row].request_queue
            start.cell[row] = [self.cell(agent.x, agent.y) for agent in agents]
            start.direction[row] = [agent.dir.value for agent in agents]
            start.queue[row] = [shelf.id for shelf in queue]
        self.ours.place(where, start)
        shown = self.ours.reset(self.tasks, torch.zeros(n_rows, dtype=torch.bool))  # no row: what is seen now
        for row, obs in seen.items():
            self.compare(shown, row, obs)

    def cell(self, x: int, y: int) -> int:
        return self._origin + y * int(self.ours.plan.ahead[DOWN]) + x

    def random_actions(self) -> Tensor:
        shape = (len(self.layouts), self.rules.n_agents)
        return torch.from_numpy(self._generator.choice(5, shape, p=ACTIONS))

    def step(self, action: Tensor) -> StepResult:
        """Act in both, compare, and restart rows that have ended."""
        chance = self._generator.random((len(self.layouts), self.rules.n_agents), dtype=np.float32)
        result = self.ours.step_with(action, torch.from_numpy(chance))
        for row, env in enumerate(self.theirs):
            self.draws[row].chances = chance[row].astype(float).tolist()
            obs, rewards, done, _, _ = env.step(action[row].tolist())
            self.compare(result, row, obs)
            assert result.reward[row].tolist() == rewards
            assert bool(result.terminated[row] | result.truncated[row]) == done
        self.n_transitions += len(self.theirs)
        self.n_rewards += int((result.reward > 0).sum())
        is_over = (result.terminated | result.truncated).numpy()
        if is_over.any():
            self.restart(is_over)
        return result

    def compare(self, ours: Observation | StepResult, row: int, obs: Any) -> None:
        """Assert that the whole state of a row, and what is seen, are the same."""
        floor, env, cell = self.ours.floor, self.theirs[row], self.cell
        inside = self.ours.plan.is_inside[row]
        assert (floor.agent_at[row, inside] == env.grid[0].ravel()).all()
        assert (floor.shelf_at[row, inside] == env.grid[1].ravel()).all()
        assert floor.cell[row].tolist() == [cell(agent.x, agent.y) for agent in env.agents]
        assert floor.direction[row].tolist() == [agent.dir.value for agent in env.agents]
        carried = [agent.carrying_shelf.id if agent.carrying_shelf else 0 for agent in env.agents]
        assert floor.carried[row].tolist() == carried
        assert floor.has_delivered[row].tolist() == [agent.has_delivered for agent in env.agents]
        n_shelves = len(env.shelfs)
        assert floor.shelf_cell[row, 1 : n_shelves + 1].tolist() == [cell(shelf.x, shelf.y) for shelf in env.shelfs]
        assert floor.queue[row].tolist() == [shelf.id for shelf in env.request_queue]
        assert (ours.obs[row].numpy() == np.stack(obs)).all()
        carriers = {agent.carrying_shelf.id for agent in env.agents if agent.carrying_shelf}
        requests = [(shelf.x, shelf.y, shelf.id in carriers) for shelf in env.request_queue]
        assert (ours.state[row].numpy() == np.concatenate([*obs, np.ravel(requests)])).all()


def reference(layout: Layout, rules: Rules) -> Any:
    return Warehouse(
        shelf_columns=0,
        column_height=0,
        shelf_rows=0,
        n_agents=rules.n_agents,
        msg_bits=0,
        sensor_range=rules.sensor_range,
        request_queue_size=rules.n_requests,
        max_inactivity_steps=rules.max_inactivity_steps or None,
        max_steps=rules.max_steps,
        reward_type=THEIR_REWARDS[REWARDS[rules.reward]],
        layout="\n".join(layout.lines),
    )
