"""simple_reference of mpe2: each of two agents knows where the other is to go, and tells it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from envs.core import setting
from envs.mpe.layout import Kind, Layout, ScenarioConfig
from envs.mpe.scenario import Scenario, ScenarioBatch
from envs.mpe.world import Body, World

AGENT = Body(size=0.05, collides=False)
LANDMARK = Body(size=0.05, collides=False)
N_LANDMARKS = 3
N_WORDS = 10


@dataclass(frozen=True)
class SimpleReferenceConfig(ScenarioConfig):
    local_ratio: float = setting(
        0.5, "share of the one that it informs in an agent's reward; the rest is the mean", low=0, high=1
    )


class SimpleReference(Scenario):
    task_name = "inform"
    colours = ((0.75, 0.25, 0.25), (0.25, 0.75, 0.25), (0.25, 0.25, 0.75))
    config: SimpleReferenceConfig

    def _layout(self) -> Layout:
        obs_size = 2 + 2 * N_LANDMARKS + 3 + N_WORDS
        kind, is_shared = Kind(2, AGENT, obs_size, n_words=N_WORDS), self.config.local_ratio == 0
        return Layout((kind,), (LANDMARK,) * N_LANDMARKS, n_goals=2, shared_reward=is_shared)

    def _batch(self, world: World, n_rows: int, generator: torch.Generator) -> SimpleReferenceBatch:
        return SimpleReferenceBatch(self, world, n_rows, generator)


class SimpleReferenceBatch(ScenarioBatch):
    """Rows of ``SimpleReference``. Goal i is where the other agent is to go, and agent i knows it.

    Observation: own velocity; relative positions of landmarks; colour of the other's goal; what the other has said.
    Reward of agent i: local_ratio times minus the other's distance to its goal, the rest minus the mean of both.
    """

    def __init__(self, family: SimpleReference, world: World, n_rows: int, generator: torch.Generator) -> None:
        super().__init__(family, world, n_rows, generator)
        self._local_ratio = family.config.local_ratio

    def _obs(self) -> Tensor:
        pos, vel, landmarks, _, said, _ = self.now
        around = (landmarks[:, None] - pos[:, :, None]).flatten(2)  # (B, 2, 2 L)
        return torch.cat((vel, around, self._goal_colours(), said.flip(1)), dim=-1)

    def _reward(self) -> Tensor:
        distance = torch.linalg.vector_norm(self.now.pos.flip(1) - self._goal_places(), dim=-1)  # (B, 2)
        return -torch.lerp(distance.mean(dim=1, keepdim=True), distance, self._local_ratio)
