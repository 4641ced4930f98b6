"""The task encoder's interface: a belief per row, updated in constant time per step, and latents read off it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mg2l_kalei.processes import ALONE, Processes
from mg2l_kalei.types import Contexts, Metrics, Rollout, TaskLatent, Transition

Belief = Any  # tensors, private to the encoder


class EncoderUse(NamedTuple):
    """How a run uses its encoder."""

    context: Any  # the run's ContextConfig
    trains_by_values: bool  # whether the learner's loss of values trains it


class TaskEncoder(nn.Module, ABC):
    """Turns what a team has lived through into a global and N local task representations.

    Constructors are called as ``Encoder(config, spec, task_features, n_train, generator)``: the encoder's frozen
    config, the ``EnvSpec``, every task's features (n_tasks, n_features), of which the first ``n_train`` are training
    tasks, and a CPU generator for initial weights. Agent n's local latent depends on agent n's transitions alone.
    """

    global_dim: int
    local_dim: int
    processes: Processes = ALONE  # that train it together; ``loss`` and statistics are of all their contexts
    is_told_task: bool = False  # whether ``prior`` says what the task is: such an encoder acts where tasks are known
    is_read_at_episodes: bool = False  # whether beliefs are read when an episode begins, not at every step
    acts_on_samples: bool = False  # whether training acts on samples of posteriors, not on their means
    needs_whole_trials: bool = False  # whether its loss takes contexts for trials, from their first step to their last
    n_consecutive: int = 1  # transitions that are looked at together, so that contexts must hold them in a row

    @classmethod
    def problems(cls, config: Any, use: EncoderUse) -> Iterable[str]:
        """Why this encoder's config cannot work where it is used like this, a line each."""
        return ()

    @abstractmethod
    def prior(self, task: Tensor) -> Belief:
        """The belief before any transition, for rows on ``task`` (B,) int64, which the oracle alone may look at."""

    @abstractmethod
    def observe(self, belief: Belief, transition: Transition) -> Belief:
        """The belief after one more transition per row (B, N, ...): O(1) in the number of transitions before it."""

    @abstractmethod
    def latent(self, belief: Belief, *, sample: bool = False, generator: torch.Generator | None = None) -> TaskLatent:
        """Posterior mean, or a sample of it: (B, global_dim) and (B, N, local_dim)."""

    def local_latent(self, belief: Belief, *, sample: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """The local part alone, (B, N, local_dim): all that acting needs, at every step."""
        return self.latent(belief, sample=sample, generator=generator).local

    @abstractmethod
    def latents(
        self, rollout: Rollout, *, sample: bool = False, generator: torch.Generator | None = None
    ) -> TaskLatent:
        """Latents before each step of a trial and after its last: (T + 1, B, ...), with gradient; equal to stepping.

        Posterior means, or samples of them.
        """

    def encode(
        self, contexts: Contexts, *, sample: bool = False, generator: torch.Generator | None = None
    ) -> TaskLatent:
        """Latents of whole contexts: (B, global_dim) and (B, N, local_dim)."""
        raise NotImplementedError(f"{type(self).__name__} infers nothing from contexts")

    def learned_latents(self, rollout: Rollout, generator: torch.Generator) -> tuple[TaskLatent, Tensor]:
        """Latents (T + 1, B, ...), of which values are learned, and what their loss bears for the global ones: ()."""
        return self.latents(rollout), torch.zeros(())

    @property
    def has_loss(self) -> bool:
        """Whether there is a ``loss``, or the critic's trains all there is."""
        return self.learns

    @property
    def is_stochastic(self) -> bool:
        """Whether ``sample`` makes a difference to latents."""
        return False

    @property
    def learns(self) -> bool:
        """Whether ``loss`` trains anything."""
        return False

    def learning_rate(self, *, early: bool) -> float:
        """The learning rate of ``loss``, in early iterations (see ``ContextConfig``) or after them."""
        return 0.0

    def critic_parameters(self) -> list[nn.Parameter]:
        """What the critic's loss trains: the layers that the global latent comes from."""
        return []

    def fit_normaliser(self, transition: Transition) -> None:
        """Update the input statistics with new transitions (T, B, N, ...)."""

    def loss(self, contexts: Contexts, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """The encoder's own loss on contexts of training tasks: scalar, and metrics under ``encoder/``."""
        raise NotImplementedError(f"{type(self).__name__} has no loss of its own")

    def figures(self, unseen: Contexts, stored: Contexts, generator: torch.Generator) -> Metrics:
        """How well it infers: metrics under ``encoder/``, on trials that it was not trained on.

        unseen: R contexts, 2 or more, each of a trial of its own; stored: K of other trials, which it may know.
        """
        return {}
