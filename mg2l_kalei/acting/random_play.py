"""Acting at random, so that others can look on: what an encoder makes of play that serves nothing."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from envs.core import EnvSpec
from mg2l_kalei.networks.config import NetworkConfig
from mg2l_kalei.networks.distributions import categorical
from mg2l_kalei.networks.recall import Recall
from mg2l_kalei.types import ActionSample, Clock


class RandomPolicy:
    """A ``Policy`` to which all legal actions are alike, and of continuous ones all in [-1, 1]; it looks at nothing."""

    def __init__(self, spec: EnvSpec) -> None:
        self.spec, self.recall = spec, Recall(NetworkConfig(), spec)
        sizes = torch.tensor(spec.action_sizes or (spec.action_dim,) * spec.n_agents)
        self._is_used = torch.arange(spec.action_dim) < sizes.unsqueeze(-1)  # (N, action_dim)   not padded

    def initial_memory(self, n_rows: int) -> Tensor | None:
        return None

    def act(
        self,
        obs: Tensor,
        legal: Tensor | None,
        latent: Tensor,
        memory: Tensor | None,
        generator: torch.Generator,
        *,
        explore: Clock | None,
    ) -> ActionSample:
        shape = (*obs.shape[:2], self.spec.action_dim)
        if self.spec.is_discrete:
            return ActionSample(categorical(torch.zeros(shape, device=obs.device), legal).sample(generator))
        action = 2 * torch.rand(shape, generator=generator, device=obs.device) - 1
        return ActionSample(torch.where(self._is_used.to(obs.device), action, 0.0))

    def frozen(self) -> AbstractContextManager[None]:
        return nullcontext()
