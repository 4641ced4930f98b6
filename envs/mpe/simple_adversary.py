"""simple_adversary of mpe2: good agents cover the goal among landmarks, and an adversary has to guess it from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from envs.core import setting
from envs.mpe.contest import ContestBatch, ContestConfig
from envs.mpe.layout import LEARNING, Kind, Layout
from envs.mpe.scenario import Scenario
from envs.mpe.world import Body, Motion, World, coasting_distance, resting_place

AGENT = Body(size=0.15, collides=False)
LANDMARK = Body(size=0.08, collides=False)


@dataclass(frozen=True)
class SimpleAdversaryConfig(ContestConfig):
    num_good: int = setting(2, "good agents, and landmarks (N in mpe2)", low=1)


class SimpleAdversary(Scenario):
    task_name = "deceive"
    config: SimpleAdversaryConfig

    def _layout(self) -> Layout:
        n = self.config.num_good
        adversary = Kind(1, AGENT, 4 * n, played_by=self.config.opponents)
        is_shared = self.config.opponents != LEARNING
        return Layout((adversary, Kind(n, AGENT, 2 + 4 * n)), (LANDMARK,) * n, n_goals=1, shared_reward=is_shared)

    def _batch(self, world: World, n_rows: int, generator: torch.Generator) -> SimpleAdversaryBatch:
        return SimpleAdversaryBatch(self, world, n_rows, generator)


class SimpleAdversaryBatch(ContestBatch):
    """Rows of ``SimpleAdversary``.

    Observation: relative positions of the goal (good agents alone), of landmarks and of the other agents.
    Reward: minus its distance to the goal for the adversary; the same distance less that of the nearest good agent, for
    every good one.
    """

    def _views(self) -> tuple[Tensor, ...]:
        around = self._around()
        goal = self._goal_places() - self.now.pos[:, 1:]
        return around[:, :1], torch.cat((goal, around[:, 1:]), dim=-1)

    def _payoffs(self) -> tuple[Tensor, ...]:
        distance = torch.linalg.vector_norm(self.now.pos - self._goal_places(), dim=-1)  # (B, 1 + num_good)
        adversary, good = distance[:, :1], distance[:, 1:]
        return -adversary, (adversary - good.amin(dim=1, keepdim=True)).expand_as(good)

    def _script(self) -> Tensor:
        """What brings the adversary to rest on its guess, in one step if the distance allows."""
        pos, vel, landmarks, *_ = self.now
        apart = torch.linalg.vector_norm(landmarks[:, :, None] - pos[:, None, 1:], dim=-1)  # (B, L, num_good)
        guess = apart.sum(-1).argmin(dim=1)[:, None, None]  # (B, 1, 1)
        missing = landmarks.take_along_dim(guess, dim=1) - resting_place(Motion(pos[:, :1], vel[:, :1]))
        return missing / coasting_distance(AGENT)
