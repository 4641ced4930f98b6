"""PettingZoo environments to play with in tests: what each shows tells what it was told."""

from __future__ import annotations

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
        limit = getattr(self, "max_cycles", None) or np.inf
        late = {agent: self.steps >= limit for agent in acting}
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
            views[agent] = np.zeros(Walk.observation_space(self, agent).shape, np.float32)
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


class Compass(ParallelEnv[str, Any, Any]):
    """Each agent is paid for the action of its own; what it sees is drawn from its name and the seed.

    The order of the agents is whatever ``ORDER`` says when the environment is made.
    """

    max_cycles = 4

    def __init__(self) -> None:
        self.metadata = {"name": "compass"}
        self.possible_agents = list(ORDER)
        self.agents: list[str] = []

    def observation_space(self, agent: str) -> spaces.Box:
        return spaces.Box(-np.inf, np.inf, (len(agent),), np.float32)

    def action_space(self, agent: str) -> spaces.Discrete:
        return spaces.Discrete(len(agent) - 2)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        self.agents, self.steps = self.possible_agents[:], 0
        self.chance = {agent: np.random.default_rng([seed or 0, *agent.encode()]) for agent in self.agents}
        return self._views(), {}

    def step(self, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        acting, self.steps = self.agents, self.steps + 1
        rewards = {agent: float(actions[agent] == len(agent) % 3) for agent in acting}
        late = dict.fromkeys(acting, self.steps >= self.max_cycles)
        self.agents = [] if late[acting[0]] else acting
        return self._views(), rewards, {}, late, {}

    def _views(self) -> dict[str, NDArray[np.float32]]:
        return {agent: chance.normal(size=len(agent)).astype(np.float32) for agent, chance in self.chance.items()}


ORDER = ("north", "east", "southeast")


def compass() -> Compass:
    return Compass()
