"""The reference lines of every comparison: knowing nothing of the task, and being given it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from envs.core import EnvSpec
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.types import Rollout, TaskLatent, Transition


@dataclass(frozen=True)
class NoEncoderConfig:
    pass


@dataclass(frozen=True)
class OracleConfig:
    pass


class GivenEncoder(TaskEncoder):
    """Latents are a table's row of the task; what is observed changes nothing. The belief is the task (B,)."""

    table: Tensor  # (n_tasks, dim)

    def __init__(self, table: Tensor, n_agents: int) -> None:
        super().__init__()
        self.register_buffer("table", table)
        self.n_agents = n_agents
        self.global_dim = self.local_dim = table.shape[-1]

    def prior(self, task: Tensor) -> Tensor:
        return task

    def observe(self, belief: Tensor, transition: Transition) -> Tensor:
        return belief

    def latent(self, belief: Tensor, *, sample: bool = False, generator: torch.Generator | None = None) -> TaskLatent:
        rows = self.table[belief]
        return TaskLatent(rows, rows.unsqueeze(-2).expand(-1, self.n_agents, -1))

    def latents(
        self, rollout: Rollout, *, sample: bool = False, generator: torch.Generator | None = None
    ) -> TaskLatent:
        T = len(rollout.steps.reward)
        global_, local = self.latent(rollout.task)
        return TaskLatent(global_.expand(T + 1, -1, -1), local.expand(T + 1, -1, -1, -1))


class NoEncoder(GivenEncoder):
    """No task inference: latents of width 0."""

    def __init__(
        self, config: NoEncoderConfig, spec: EnvSpec, task_features: Tensor, n_train: int, generator: torch.Generator
    ) -> None:
        super().__init__(torch.zeros(len(task_features), 0), spec.n_agents)


class OracleEncoder(GivenEncoder):
    """Is given ``Task.features``."""

    is_told_task = True

    def __init__(
        self, config: OracleConfig, spec: EnvSpec, task_features: Tensor, n_train: int, generator: torch.Generator
    ) -> None:
        super().__init__(task_features, spec.n_agents)
