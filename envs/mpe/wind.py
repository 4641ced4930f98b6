"""Spread in a hidden wind: all landmarks count, and a constant force, unseen, pushes every agent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from envs.core import EnvSpec, Marker, Observation, Scene, Task, TaskFamily, refuse_many_tasks, setting
from envs.mpe.spread import AGENT, LANDMARK_SIZE, SpreadBatch, discrete_setting, spread_spec

TRAIN_STRENGTH = (3.0, 4.0)  # N; an action of 1 is a force of 5 N per axis
UNSEEN_STRENGTHS = ((2.0, 2.8), (4.2, 4.8))  # N, of the ood split
UNSEEN_ARC = (math.radians(30), math.radians(90))  # directions that no training or test task has
WIND_MARK = 0.8  # m for a wind as strong as an action of 1, in pictures


@dataclass(frozen=True)
class WindConfig:
    n_agents: int = setting(2, "agents, and landmarks, which all count", low=1)
    n_train: int = setting(64, "winds to train on", low=1)
    n_test: int = setting(16, "held-out winds of the same strengths and directions", low=0)
    n_ood: int = setting(16, "winds out of range: half of unseen strengths, half of unseen directions", low=0)
    episode_steps: int = setting(100, "time limit of an episode [steps]", low=1)
    is_discrete: bool = discrete_setting()

    def __post_init__(self) -> None:
        asked = f"n_train={self.n_train}, n_test={self.n_test}, n_ood={self.n_ood}"
        refuse_many_tasks(asked, self.n_train + self.n_test + self.n_ood)


class Wind(TaskFamily):
    """A task is a wind. Training and test winds are drawn alike; ood ones have other strengths or directions."""

    def __init__(self, name: str, config: WindConfig, generator: np.random.Generator) -> None:
        super().__init__(name, config, generator)
        n_strange = config.n_ood // 2
        seen = [_seen_direction(generator) for _ in range(config.n_train + config.n_test + n_strange)]
        usual = [float(generator.uniform(*TRAIN_STRENGTH)) for _ in range(config.n_train + config.n_test)]
        strange = [float(generator.uniform(*UNSEEN_STRENGTHS[i % 2])) for i in range(n_strange)]
        ood = [(s, a) for s, a in zip(strange, seen[len(usual) :], strict=True)]
        for _ in range(config.n_ood - n_strange):
            ood.append((float(generator.uniform(*TRAIN_STRENGTH)), float(generator.uniform(*UNSEEN_ARC))))
        drawn = list(zip(usual, seen[: len(usual)], strict=True))
        by_split = {"train": drawn[: config.n_train], "test": drawn[config.n_train :], "ood": ood}
        self.tasks = tuple(
            _task(f"{split}-{i}", strength, direction, split)
            for split, winds in by_split.items()
            for i, (strength, direction) in enumerate(winds)
        )
        self.spec = spread_spec(config.n_agents, config.n_agents, config.episode_steps, config.is_discrete)

    def places(self, obs: Tensor) -> Tensor:
        return obs[..., :2]

    def make(
        self,
        n_rows: int,
        device: torch.device,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> WindBatch:
        return WindBatch(self.spec, self.features().to(device, dtype), n_rows, generator)


def _seen_direction(generator: np.random.Generator) -> float:
    """Radians, anywhere but in the unseen arc."""
    low, high = UNSEEN_ARC
    return float((high + generator.uniform(0, 2 * math.pi - (high - low))) % (2 * math.pi))


def _task(name: str, strength: float, direction: float, split: str) -> Task:
    force = [strength * math.cos(direction), strength * math.sin(direction)]
    return Task(f"wind-{name}", {"force": force}, (force[0] / AGENT.accel, force[1] / AGENT.accel), split)


class WindBatch(SpreadBatch):
    """Rows of ``Wind``: those of ``Spread`` whose targets are all the landmarks, in a wind that is not observed.

    ``wind`` (B, 2): what blows in each row, in units of an action of 1.
    """

    wind: Tensor

    def __init__(self, spec: EnvSpec, winds: Tensor, n_rows: int, generator: torch.Generator) -> None:
        super().__init__(spec, torch.ones_like(winds[:, :1]).expand(-1, spec.n_agents), n_rows, generator)
        self._winds = winds  # (n_tasks, 2)

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        wind = self._winds[tasks]
        self.wind = wind if where is None else torch.where(where[:, None], wind, self.wind)
        return super().reset(tasks, where)

    def _control(self, action: Tensor) -> Tensor:
        return super()._control(action) + self.wind[:, None]

    def scene(self, row: int) -> Scene:
        """Also a mark where the wind blows from the middle to."""
        scene = super().scene(row)
        x, y = (WIND_MARK * self.wind[row]).tolist()
        return scene._replace(markers=(*scene.markers, Marker(x, y, LANDMARK_SIZE / 2, "landmark", True)))
