"""Spread with roles: the hidden task says which landmark is whose, and the team is paid for all together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from envs.core import EnvSpec, Observation, TaskFamily, setting
from envs.mpe.assignments import draw_assignments, refuse_assignments
from envs.mpe.spread import SpreadBatch, discrete_setting, spread_spec


@dataclass(frozen=True)
class SpreadRolesConfig:
    n_agents: int = setting(3, "agents, and landmarks, each of which is one agent's", low=2, high=12)
    n_train: int = setting(4, "assignments of landmarks to agents to train on", low=1)
    n_test: int = setting(2, "held-out assignments", low=0)
    episode_steps: int = setting(100, "time limit of an episode [steps]", low=1)
    is_discrete: bool = discrete_setting()

    def __post_init__(self) -> None:
        refuse_assignments(self.n_agents, self.n_train, self.n_test)


class SpreadRoles(TaskFamily):
    """A task is a permutation. Agents see each other but not who they are: with one policy that is not told, not even
    a team that knows the task can tell which landmark is whose.
    """

    def __init__(self, name: str, config: SpreadRolesConfig, generator: np.random.Generator) -> None:
        super().__init__(name, config, generator)
        n = config.n_agents
        self.tasks = draw_assignments(n, config.n_train, config.n_test, generator)
        self.spec = spread_spec(n, n, config.episode_steps, config.is_discrete)
        self.true_groups = tuple(range(n))

    def places(self, obs: Tensor) -> Tensor:
        return obs[..., :2]

    def make(
        self, n_rows: int, device: torch.device, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> SpreadRolesBatch:
        owned = torch.tensor([task.params["landmarks"] for task in self.tasks], device=device)
        return SpreadRolesBatch(self.spec, owned, n_rows, generator, dtype=dtype)


class SpreadRolesBatch(SpreadBatch):
    """Rows of ``SpreadRoles``: those of ``Spread`` whose targets are all the landmarks, each for one agent alone.

    Reward: the team's, the same for each agent: minus the distance from each agent to its own landmark, summed.
    ``own`` (B, N) int64: the landmark of each agent in each row.
    """

    own: Tensor

    def __init__(
        self, spec: EnvSpec, owned: Tensor, n_rows: int, generator: torch.Generator, *, dtype: torch.dtype
    ) -> None:
        super().__init__(spec, torch.ones(owned.shape, device=owned.device, dtype=dtype), n_rows, generator)
        self._owned = owned  # (n_tasks, N)

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        own = self._owned[tasks]
        self.own = own if where is None else torch.where(where[:, None], own, self.own)
        return super().reset(tasks, where)

    def _reward(self) -> Tensor:
        goal = self.now.landmarks.gather(1, self.own[..., None].expand(-1, -1, 2))  # (B, N, 2)
        distance = torch.linalg.vector_norm(goal - self.now.pos, dim=-1)
        return -distance.sum(dim=1, keepdim=True).expand(-1, self.spec.n_agents).clone()
