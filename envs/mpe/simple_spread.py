"""simple_spread of mpe2: agents cover landmarks and keep out of each other's way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from envs.core import setting
from envs.mpe.layout import Kind, Layout, ScenarioConfig
from envs.mpe.scenario import Scenario, ScenarioBatch
from envs.mpe.world import Body, World

AGENT = Body(size=0.15)
LANDMARK = Body(size=0.05, collides=False)
MESSAGE_DIM = 2  # of the messages that agents never send, and always see as zeros


@dataclass(frozen=True)
class SimpleSpreadConfig(ScenarioConfig):
    n_agents: int = setting(3, "agents, and landmarks", low=1)
    local_ratio: float = setting(0.5, "share of own collisions in the reward; the rest is the team's", low=0, high=1)


class SimpleSpread(Scenario):
    task_name = "cover"
    config: SimpleSpreadConfig

    def _layout(self) -> Layout:
        n = self.config.n_agents
        kind = Kind(n, AGENT, 4 + 2 * n + (2 + MESSAGE_DIM) * (n - 1))
        is_shared = n <= 2 or self.config.local_ratio == 0  # a collision of two is one of either
        return Layout((kind,), (LANDMARK,) * n, shared_reward=is_shared)

    def places(self, obs: Tensor) -> Tensor:
        return obs[..., 2:4]

    def _batch(self, world: World, n_rows: int, generator: torch.Generator) -> SimpleSpreadBatch:
        return SimpleSpreadBatch(self, world, n_rows, generator)


class SimpleSpreadBatch(ScenarioBatch):
    """Rows of ``SimpleSpread``.

    Observation: own velocity and position; relative positions of landmarks and of the other agents; their messages.
    Reward of agent i: (1 - local_ratio) times minus the distance from each landmark to its nearest agent, summed, less
    local_ratio for every agent that i collides with.
    """

    def __init__(self, family: SimpleSpread, world: World, n_rows: int, generator: torch.Generator) -> None:
        super().__init__(family, world, n_rows, generator)
        self._local_ratio = family.config.local_ratio
        N = family.config.n_agents
        self._silence = torch.zeros(n_rows, N, MESSAGE_DIM * (N - 1), device=world.device, dtype=world.dtype)

    def _obs(self) -> Tensor:
        pos, vel, *_ = self.now
        return torch.cat((vel, pos, self._around(), self._silence), dim=-1)

    def _reward(self) -> Tensor:
        pos, landmarks = self.now.pos, self.now.landmarks
        uncovered = torch.linalg.vector_norm(landmarks[:, :, None] - pos[:, None], dim=-1).amin(-1).sum(-1)  # (B,)
        apart = torch.linalg.vector_norm(pos[:, :, None] - pos[:, None], dim=-1)  # (B, N, N)
        collisions = (apart < 2 * AGENT.size).to(pos.dtype).sum(-1) - 1  # (B, N), not with oneself
        return -(1 - self._local_ratio) * uncovered[:, None] - self._local_ratio * collisions
