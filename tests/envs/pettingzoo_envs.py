"""PettingZoo environments to play with in tests: what each shows tells what it was told."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

BOX = spaces.Box(-np.inf, np.inf, (2,), np.float32)


class Walk(ParallelEnv[str, Any, Any]):
    """Agents walk at random, pushed by their actions, and are paid for being where the task wants them.

    An agent sees (position, last action, ...): agent n has n zeros behind these. ``leaves``: in which step agent n
    leaves, 0: never.
    """

    def __init__(
        self,
        goal: float,
        n_agents: int,
        *,
        leaves: tuple[int, ...] = (),
        max_cycles: int = 6,
        is_continuous: bool = False,
        has_mask: bool = False,
    ) -> None:
        self.metadata = {"name": "walk"}
        self.goal, self.max_cycles, self.leaves, self.has_mask = goal, max_cycles, leaves, has_mask
        self.possible_agents = [f"walker_{n}" for n in range(n_agents - 1)] + ["seer_0"]
        self.agents: list[str] = []
        self.is_closed = False
        box = spaces.Box(np.array([0.0, -2.0], np.float32), np.array([1.0, 6.0], np.float32))
        self.action = box if is_continuous else spaces.Discrete(3, start=-1)

    def observation_space(self, agent: str) -> spaces.Box:
        return spaces.Box(-np.inf, np.inf, (3 + self.possible_agents.index(agent),), np.float32)

    def action_space(self, agent: str) -> Any:
        return self.action

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        self.chance = np.random.default_rng(seed)
        self.agents = self.possible_agents[:]
        self.steps = 0
        self.at = dict(zip(self.agents, self.chance.normal(size=len(self.agents)), strict=True))
        return self._views(self.agents, {}), self._infos(self.agents)

    def step(self, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        acting, self.steps = self.agents, self.steps + 1
        for agent in acting:
            self.at[agent] += 0.1 * float(np.sum(actions[agent])) + 0.1 * self.chance.normal()
        rewards = {agent: -abs(self.at[agent] - self.goal) for agent in acting}
        gone = {agent: self._leaves(agent) == self.steps for agent in acting}
        late = {agent: self.steps >= self.max_cycles for agent in acting}
        self.agents = [agent for agent in acting if not gone[agent] and not late[agent]]
        return self._views(acting, actions), rewards, gone, late, self._infos(acting)

    def close(self) -> None:
        self.is_closed = True

    def _leaves(self, agent: str) -> int:
        n = self.possible_agents.index(agent)
        return self.leaves[n] if n < len(self.leaves) else 0

    def _views(self, agents: list[str], actions: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
        views = {}
        for agent in agents:
            views[agent] = np.zeros(self.observation_space(agent).shape, np.float32)
            views[agent][0] = self.at[agent]
            told = np.atleast_1d(actions.get(agent, 0))
            views[agent][1 : 1 + len(told)] = told
        return views

    def _infos(self, agents: list[str]) -> dict[str, Any]:
        mask = np.array([1, 0, 1], np.int8) if self.has_mask else None
        return {agent: {} if mask is None else {"action_mask": mask} for agent in agents}


class Counting(Walk):
    """Agents stand where the number of resets is: a seed does not make it all anew."""

    n_resets = 0

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        super().reset(seed)
        self.n_resets += 1
        self.at = dict.fromkeys(self.agents, float(self.n_resets))
        return self._views(self.agents, {}), self._infos(self.agents)


def counting() -> Counting:
    return Counting(goal=0.0, n_agents=2)


def walk(goal: float = 0.0, n_agents: int = 2, max_cycles: int = 6, leaves: tuple[int, ...] = ()) -> Walk:
    return Walk(goal, n_agents, max_cycles=max_cycles, leaves=leaves)


def continuous(goal: float = 0.0) -> Walk:
    return Walk(goal, 2, is_continuous=True)


def masked(goal: float = 0.0) -> Walk:
    return Walk(goal, 2, has_mask=True)


def endless() -> Walk:
    """It does not say how long it lasts."""
    env = Walk(0.0, 2)
    del env.max_cycles
    return env


class Spaces(ParallelEnv[str, Any, Any]):
    """A lone agent of these spaces, which does nothing."""

    def __init__(self, sees: spaces.Space[Any], acts: spaces.Space[Any]) -> None:
        self.metadata = {"name": "spaces"}
        self.possible_agents = self.agents = ["it"]
        self.observation_spaces, self.action_spaces = {"it": sees}, {"it": acts}

    def observation_space(self, agent: str) -> Any:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        return {}, {}


class Fails(Walk):
    """Goes wrong in a certain step, in one way."""

    def __init__(self, how: str, step: int) -> None:
        super().__init__(0.0, 2)
        self.how, self.fatal_step = how, step

    def step(self, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        if self.steps + 1 == self.fatal_step:
            if self.how == "exit":
                os._exit(3)
            if self.how == "sleep":
                time.sleep(1000)
            if self.how == "raise":
                raise RuntimeError("the walls\ncame down")
            obs, rewards, *rest = super().step(actions)
            wrong = {
                "no reward": (obs, {}),
                "no observation": ({}, rewards),
                "narrow": (dict.fromkeys(obs, 0.0), rewards),
            }
            return *wrong[self.how], *rest
        return super().step(actions)


def fails(how: str = "raise", step: int = 2) -> Fails:
    return Fails(how, step)
