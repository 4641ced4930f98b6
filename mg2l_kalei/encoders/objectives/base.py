"""The interface of an objective, and what it looks at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from mg2l_kalei.encoders.transitions import TransitionEncoder
from mg2l_kalei.losses.inference import Gaussian
from mg2l_kalei.processes import Processes
from mg2l_kalei.types import Contexts, Metrics


class Level(NamedTuple):
    """Posteriors of one level, and a sample of each: of z, or of every z^i."""

    q: Gaussian  # (L, R, latent_dim), or (L, R, N, latent_dim)
    z: Tensor  # likewise


class Inferred(NamedTuple):
    """What was inferred from R contexts, of K transitions each, after L lengths of them."""

    contexts: Contexts  # (K, R, N, ...)
    reward_error: Tensor  # ()   of each training task's own reward prediction
    global_: Level
    local: Level
    # The same of all processes, whose R contexts are together; pairs of a task stand half of them apart:
    all_global: Level
    all_local: Level
    task: Tensor  # (R,) int64
    prototypes: Tensor  # (n_train_tasks, latent_dim)   learned keys of the contrast, a parameter
    transition_encoder: TransitionEncoder
    processes: Processes
    generator: torch.Generator  # for what an objective draws


class Objective(ABC):
    """A term of an encoder's loss. Constructors are called as ``Objective(config, transition_encoder, generator)``.

    ``network``: what it learns beside the encoder (None: nothing), saved as the encoder's part ``network_name``.
    """

    network_name: ClassVar[str] = ""
    sees_every_step: ClassVar[bool] = False  # whether it needs what was inferred after each transition: L = K
    can_tell_agents_apart: ClassVar[bool] = True  # False: it says of all agents alike what a latent means
    trains_all_by_local: ClassVar[bool] = False  # whether it trains z^i's layers below the local one, at any setting

    def __init__(self, config: Any, transition_encoder: TransitionEncoder, generator: torch.Generator) -> None:
        self.config = config
        self.network: nn.Module | None = None

    @classmethod
    def is_on(cls, config: Any) -> bool:
        """Whether these settings leave it anything to do."""
        return True

    @abstractmethod
    def loss(self, inferred: Inferred) -> tuple[Tensor, Metrics]:
        """The term, weighted: scalar, and metrics under ``encoder/``."""
