"""``toy-arms``: a bandit whose best arm has to be remembered from one episode to the next, with a known optimum.

Nothing is seen but noise, so that a team learns of its task by what it did and was paid alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs.core import EnvSpec, Marker, Observation, Scene, StepResult, Task, TaskFamily, replace_rows, setting
from envs.streams import RowStreams


@dataclass(frozen=True)
class ArmsConfig:
    n_agents: int = setting(2, "agents, each with arms of its own", low=1)
    n_arms: int = setting(3, "arms; the hidden task is which one pays 1, the others pay nothing", low=2)
    episode_steps: int = setting(1, "time limit of an episode [steps]", low=1)


class ArmsState(NamedTuple):
    best: Tensor  # (B,) int64
    elapsed: Tensor  # (B,) int64   steps since the episode's start
    noise: Tensor  # (B, N, 1)   what there is to see


class Arms(TaskFamily):
    """In every task one arm pays; the ``k``-th episode of a trial can be known to pay ``optimal_return(k)``."""

    def __init__(self, name: str, config: ArmsConfig, generator: np.random.Generator) -> None:
        super().__init__(name, config, generator)
        n = config.n_arms
        self.tasks = tuple(Task(f"arm-{k}", {"arm": k}, tuple(float(i == k) for i in range(n))) for k in range(n))
        self.spec = EnvSpec(
            n_agents=config.n_agents,
            obs_dim=1,
            state_dim=config.n_agents,
            action_dim=n,
            is_discrete=True,
            episode_steps=config.episode_steps,
            ends_on_time=True,
        )

    def optimal_return(self, k: int) -> float:
        """Of episode k = 0, 1, ...: an arm that paid is kept, and one that did not is not tried again."""
        steps = range(k * self.spec.episode_steps, (k + 1) * self.spec.episode_steps)
        return sum(min(1.0, (step + 1) / self.spec.action_dim) for step in steps)

    @property
    def forgetful_return(self) -> float:
        """What a team can reach that forgets at every episode's start."""
        return self.optimal_return(0)

    def make(self, n_rows: int, device: torch.device, generator: torch.Generator) -> ArmsBatch:
        return ArmsBatch(self.spec, n_rows, generator)


class ArmsBatch:
    """Rows of ``Arms``; ``now`` may be set."""

    now: ArmsState

    def __init__(self, spec: EnvSpec, n_rows: int, generator: torch.Generator) -> None:
        self.spec, self._shape, self._streams = spec, (n_rows, spec.n_agents, 1), RowStreams(generator, n_rows)

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        (noise,) = self._streams.restart(self._draw, where)
        fresh = ArmsState(tasks.clone(), torch.zeros_like(tasks), noise)
        self.now = fresh if where is None else replace_rows(self.now, fresh, where)
        return self._shown()

    def step(self, action: Tensor) -> StepResult:
        (noise,) = self._streams.step(self._draw)
        self.now = ArmsState(self.now.best, self.now.elapsed + 1, noise)
        reward = (action == self.now.best.unsqueeze(-1)).float()
        truncated = self.now.elapsed >= self.spec.episode_steps
        obs, state, legal, alive = self._shown()
        return StepResult(obs, state, reward, torch.zeros_like(truncated), truncated, legal, alive)

    def scene(self, row: int) -> Scene:
        """The arms on a ring, the team at its centre."""
        n, best = self.spec.action_dim, int(self.now.best[row])
        angles = [2 * math.pi * arm / n for arm in range(n)]
        ring = [Marker(math.cos(x), math.sin(x), 0.1, "landmark", arm == best) for arm, x in enumerate(angles)]
        return Scene((*ring, Marker(0.0, 0.0, 0.1, "agent", False)), -1.2, 1.2)

    def _shown(self) -> Observation:
        noise = self.now.noise
        alive = torch.ones(noise.shape[:2], dtype=torch.bool, device=noise.device)
        return Observation(noise.clone(), noise.flatten(1), None, alive)

    def _draw(self, generator: torch.Generator) -> tuple[Tensor]:
        return (torch.rand(self._shape, generator=generator, device=generator.device),)
