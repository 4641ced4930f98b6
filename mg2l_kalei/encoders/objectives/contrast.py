"""Contrast between tasks, and closeness to the prior: the global loss of MG2L."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mg2l_kalei.encoders.objectives.base import Inferred, Objective
from mg2l_kalei.encoders.pooling import linear
from mg2l_kalei.encoders.transitions import TransitionEncoder
from mg2l_kalei.losses.inference import info_nce, kl_to_prior, prototype_nce
from mg2l_kalei.types import Metrics


class Contrast(Objective):
    """InfoNCE loss between pairs of contexts of a task, and with a learned prototype of each task."""

    @classmethod
    def is_on(cls, config: Any) -> bool:
        return bool(config.pairwise_coef or config.prototype_coef)

    def loss(self, inferred: Inferred) -> tuple[Tensor, Metrics]:
        config, z, task = self.config, inferred.all_global.z, inferred.task
        half = len(task) // 2
        pairwise = info_nce(z[:, :half], z[:, half : 2 * half], task[:half], config.temperature)
        prototypes = prototype_nce(z, inferred.prototypes, task, config.temperature)
        metrics: Metrics = {"encoder/info_nce": pairwise.detach(), "encoder/prototype_nce": prototypes.detach()}
        return config.pairwise_coef * pairwise + config.prototype_coef * prototypes, metrics


class KlToPrior(Objective):
    """KL(q(z|c) || N(0, I)), where posteriors have variance."""

    @classmethod
    def is_on(cls, config: Any) -> bool:
        return bool(config.posterior == "gaussian")

    def loss(self, inferred: Inferred) -> tuple[Tensor, Metrics]:
        kl = kl_to_prior(inferred.all_global.q).mean()
        return self.config.kl_coef * kl, {"encoder/kl": kl.detach()}


class Classification(Objective):
    """The training task, by a linear layer on z: an ablation of the paper, in the contrast's place."""

    network_name = "classifier"

    def __init__(self, config: Any, transition_encoder: TransitionEncoder, generator: torch.Generator) -> None:
        super().__init__(config, transition_encoder, generator)
        self.network: nn.Linear = linear(config.latent_dim, transition_encoder.n_tasks, generator)

    def loss(self, inferred: Inferred) -> tuple[Tensor, Metrics]:
        z, task = inferred.global_.z, inferred.contexts.task  # (L, R, dim), (R,)
        logits: Tensor = self.network(z)
        loss = F.cross_entropy(logits.flatten(0, 1), task.expand(z.shape[:2]).flatten())
        return loss, {"encoder/classification": loss.detach()}
