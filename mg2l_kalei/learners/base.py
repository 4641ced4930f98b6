"""The learner's interface: it owns actors, critics and their optimisers, and acts (see ``collector.Policy``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from envs.core import EnvSpec
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.sharing.base import ParameterSharing
from mg2l_kalei.types import ActionSample, Metrics, Rollout, State


class Learner(ABC):
    """Learns actors pi(a^i | o^i, z^i) from whole trials.

    Constructors are called as ``Learner(config, spec, encoder, make_sharing, generator)``: the learner's frozen config,
    the ``EnvSpec``, the encoder whose latents it will see, a function from a number of members to the run's
    ``ParameterSharing``, and a CPU generator for initial weights.
    """

    actor: nn.Module

    @abstractmethod
    def __init__(
        self,
        config: Any,
        spec: EnvSpec,
        encoder: TaskEncoder,
        make_sharing: Callable[[int], ParameterSharing],
        generator: torch.Generator,
    ) -> None: ...

    def initial_recurrent_state(self, n_rows: int) -> Tensor | None:
        """(B, N, hidden) at an episode's start; None for feed-forward actors."""
        return None

    @abstractmethod
    def act(
        self,
        obs: Tensor,
        legal: Tensor | None,
        local_latent: Tensor,
        recurrent_state: Tensor | None,
        generator: torch.Generator,
        *,
        explore: bool,
    ) -> ActionSample:
        """See ``collector.Policy.act``."""

    @abstractmethod
    def update(self, rollout: Rollout, encoder: TaskEncoder, env_steps: int, generator: torch.Generator) -> Metrics:
        """Learn from one rollout, made by this actor; ``env_steps`` counts all steps including it."""

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """All of its networks, by name."""

    @abstractmethod
    def to(self, device: torch.device) -> Learner:
        """Move the networks; before the first update."""

    @abstractmethod
    def state_dict(self) -> State:
        """Networks, optimisers, normalisers, schedules, and the sharing scheme's state."""

    @abstractmethod
    def load_state_dict(self, state: State) -> None:
        """Restore what ``state_dict`` gave."""
