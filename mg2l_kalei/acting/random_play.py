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
        return ActionSample(2 * torch.rand(shape, generator=generator, device=obs.device) - 1)

    def frozen(self) -> AbstractContextManager[None]:
        return nullcontext()
