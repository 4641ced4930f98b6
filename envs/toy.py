"""Two tiny families with known optima, for learning tests.

``toy-turns``    nothing is hidden, and agents that see the same must act differently.
``toy-corners``  the hidden task decides everything: a team that knows it loses a seventh of what an ignorant one loses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs.core import (
    EnvSpec,
    Marker,
    Observation,
    Refusal,
    Scene,
    StepResult,
    Task,
    TaskFamily,
    everyone_else,
    replace_rows,
    setting,
)
from envs.streams import Drawn, RowStreams


@dataclass(frozen=True)
class TurnsConfig:
    n_agents: int = setting(2, "agents", low=1)
    n_actions: int = setting(4, "actions, and cues; more than agents", low=2)
    episode_steps: int = setting(8, "time limit of an episode [steps]", low=1)

    def __post_init__(self) -> None:
        if self.n_actions <= self.n_agents:  # one that pays nobody is illegal each step
            raise Refusal(f"n_actions={self.n_actions} is not more than n_agents={self.n_agents}")


class TurnsState(NamedTuple):
    cue: Tensor  # (B,) int64
    illegal: Tensor  # (B,) int64   the one action that nobody may take now
    elapsed: Tensor  # (B,) int64   steps since the episode's start


class Turns(TaskFamily):
    """Every step shows all agents one cue; agent i is paid 1 when its action is (cue + i) mod n_actions.

    Known returns (reward summed over an episode, averaged over agents): ``optimal_return``, and
    ``indistinct_return`` for agents that share one policy without knowing who they are.
    """

    def __init__(self, name: str, config: TurnsConfig, generator: np.random.Generator) -> None:
        super().__init__(name, config, generator)
        self.config = config
        self.tasks = (Task("turns", {}, (1.0,)),)
        self.spec = EnvSpec(
            n_agents=config.n_agents,
            obs_dim=config.n_actions,
            state_dim=config.n_actions,
            action_dim=config.n_actions,
            is_discrete=True,
            episode_steps=config.episode_steps,
            ends_on_time=True,
        )

    @property
    def optimal_return(self) -> float:
        return float(self.config.episode_steps)

    @property
    def indistinct_return(self) -> float:
        """With one distribution for all agents, the chances of being paid sum to at most one over the agents."""
        return self.config.episode_steps / self.config.n_agents

    def make(self, n_rows: int, device: torch.device, generator: torch.Generator) -> TurnsBatch:
        return TurnsBatch(self, n_rows, device, generator)


class TurnsBatch:
    """Rows of ``Turns``. ``now`` may be set, to place a given state."""

    now: TurnsState

    def __init__(self, family: Turns, n_rows: int, device: torch.device, generator: torch.Generator) -> None:
        self.spec = family.spec
        self._n_rows = n_rows
        self._streams = RowStreams(generator, n_rows)
        self._agent = torch.arange(self.spec.n_agents, device=device)
        self._actions = torch.arange(self.spec.action_dim, device=device)

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        fresh = self._shown(torch.zeros_like(tasks), *self._streams.restart(self._draw, where))
        self.now = fresh if where is None else replace_rows(self.now, fresh, where)
        return Observation(*self._views())

    def step(self, action: Tensor) -> StepResult:
        paid = action == (self.now.cue[:, None] + self._agent) % self.spec.action_dim  # (B, N)
        self.now = self._shown(self.now.elapsed + 1, *self._streams.step(self._draw))
        obs, state, legal, alive = self._views()
        truncated = self.now.elapsed >= self.spec.episode_steps
        return StepResult(obs, state, paid.float(), torch.zeros_like(truncated), truncated, legal, alive)

    def scene(self, row: int) -> Scene:
        """The actions on a ring; the agents stand at the centre, the paid ones are marked."""
        cue, n = int(self.now.cue[row]), self.spec.action_dim
        paid = {(cue + i) % n for i in range(self.spec.n_agents)}
        angles = [2 * math.pi * a / n for a in range(n)]
        ring = [Marker(math.cos(x), math.sin(x), 0.1, "landmark", a in paid) for a, x in enumerate(angles)]
        return Scene((*ring, Marker(0.0, 0.0, 0.1, "agent", False)), -1.2, 1.2)

    def _draw(self, generator: torch.Generator) -> Drawn:
        return (torch.rand(self._n_rows, 2, device=generator.device, generator=generator),)

    def _shown(self, elapsed: Tensor, chance: Tensor) -> TurnsState:
        n_agents, n_actions = self.spec.n_agents, self.spec.action_dim
        cue = (chance[:, 0] * n_actions).long()
        unpaid = n_agents + (chance[:, 1] * (n_actions - n_agents)).long()
        return TurnsState(cue, (cue + unpaid) % n_actions, elapsed)

    def _views(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """obs, state, legal, alive."""
        state = (self.now.cue[:, None] == self._actions).float()  # (B, n_actions)
        legal = self.now.illegal[:, None] != self._actions  # (B, n_actions)
        n_agents = self.spec.n_agents
        per_agent = (self._n_rows, n_agents, self.spec.action_dim)
        alive = torch.ones(per_agent[:2], dtype=torch.bool, device=state.device)
        return state[:, None].expand(per_agent).clone(), state, legal[:, None].expand(per_agent).clone(), alive


@dataclass(frozen=True)
class CornersConfig:
    n_agents: int = setting(2, "agents", low=1)
    start_spread: float = setting(0.1, "greatest distance of a start from the middle, per axis", low=0.0, high=1.0)
    max_step: float = setting(0.15, "way made in one step by an action of 1, per axis", above=0.0)
    episode_steps: int = setting(20, "time limit of an episode [steps]", low=1)


class CornersState(NamedTuple):
    pos: Tensor  # (B, N, 2)
    goal: Tensor  # (B, 2)   the hidden corner
    elapsed: Tensor  # (B,) int64   steps since the episode's start


class Corners(TaskFamily):
    """Points in the square [-1, 1]², moved by their actions; agent i's reward is minus its distance to a hidden corner.

    Known returns (reward summed over an episode, averaged over agents): ``informed_return`` for a team that knows the
    corner, and ``uninformed_return``, which no policy exceeds that does not infer it.
    """

    def __init__(self, name: str, config: CornersConfig, generator: np.random.Generator) -> None:
        super().__init__(name, config, generator)
        self.config = config
        goals = tuple(product((-1.0, 1.0), repeat=2))
        self.tasks = tuple(Task(f"corner{x:+.0f}{y:+.0f}", {"goal": [x, y]}, (x, y)) for x, y in goals)
        self.spec = EnvSpec(
            n_agents=config.n_agents,
            obs_dim=2 * config.n_agents,
            state_dim=2 * config.n_agents,
            action_dim=2,
            is_discrete=False,
            episode_steps=config.episode_steps,
            ends_on_time=True,
        )

    def informed_return(self, start: Tensor, goal: Tensor) -> Tensor:
        """The optimum, per row (B,), from start (B, N, 2) with goal (B, 2): full speed on both axes until there.

        Optimal because both axes shrink as fast as they can, independently of each other, at every step.
        """
        way = torch.arange(1, self.config.episode_steps + 1, device=start.device) * self.config.max_step
        gap = (goal[:, None] - start).abs()
        left = (gap - way[:, None, None, None]).clamp_min(0)  # (T, B, N, 2)
        return -left.norm(dim=-1).sum(0).mean(-1)

    @property
    def uninformed_return(self) -> float:
        """Staying in the middle, the point with the least mean distance to the four corners."""
        return -self.config.episode_steps * math.sqrt(2)

    def places(self, obs: Tensor) -> Tensor:
        return obs[..., :2]

    def make(self, n_rows: int, device: torch.device, generator: torch.Generator) -> CornersBatch:
        return CornersBatch(self, n_rows, device, generator)


class CornersBatch:
    """Rows of ``Corners``. Observation: own position, then the others' positions relative to it; ``now`` may be set."""

    now: CornersState

    def __init__(self, family: Corners, n_rows: int, device: torch.device, generator: torch.Generator) -> None:
        self.spec = family.spec
        self._config = family.config
        self._n_rows = n_rows
        self._streams = RowStreams(generator, n_rows)
        self._goals = family.features().to(device)
        self._others = everyone_else(self.spec.n_agents, device).flatten()

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        (start,) = self._streams.restart(self._draw, where)
        fresh = CornersState(start * self._config.start_spread, self._goals[tasks], torch.zeros_like(tasks))
        self.now = fresh if where is None else replace_rows(self.now, fresh, where)
        obs, state, alive = self._views()
        return Observation(obs, state, None, alive)

    def step(self, action: Tensor) -> StepResult:
        pos = torch.add(self.now.pos, action.clamp(-1, 1), alpha=self._config.max_step).clamp(-1, 1)
        self.now = CornersState(pos, self.now.goal, self.now.elapsed + 1)
        reward = -torch.linalg.vector_norm(pos - self.now.goal[:, None], dim=-1)
        truncated = self.now.elapsed >= self.spec.episode_steps
        obs, state, alive = self._views()
        return StepResult(obs, state, reward, torch.zeros_like(truncated), truncated, None, alive)

    def scene(self, row: int) -> Scene:
        pos, goal = self.now.pos[row].tolist(), self.now.goal[row].tolist()
        corners = [Marker(x, y, 0.1, "landmark", [x, y] == goal) for x, y in self._goals.tolist()]
        return Scene((*corners, *(Marker(x, y, 0.05, "agent", False) for x, y in pos)), -1.2, 1.2)

    def _draw(self, generator: torch.Generator) -> Drawn:
        shape = (self._n_rows, self.spec.n_agents, 2)
        return (torch.rand(shape, device=generator.device, generator=generator) * 2 - 1,)

    def _views(self) -> tuple[Tensor, Tensor, Tensor]:
        """obs, state, alive."""
        pos = self.now.pos
        others = pos.index_select(1, self._others).view(*pos.shape[:2], self.spec.n_agents - 1, 2)
        obs = torch.cat((pos, (others - pos[:, :, None]).flatten(2)), dim=-1)
        alive = torch.ones(pos.shape[:2], dtype=torch.bool, device=pos.device)
        return obs, pos.flatten(1).clone(), alive
