"""Contrast between tasks, and closeness to the prior: the global loss of MG2L."""

from __future__ import annotations

import torch
from torch import Tensor

from mg2l_kalei.encoders.objectives.base import Inferred, Objective
from mg2l_kalei.losses.inference import info_nce, kl_to_prior, prototype_nce
from mg2l_kalei.types import Metrics


class Contrast(Objective):
    """InfoNCE bound on I(z; M), between pairs of contexts of a task and with a learned prototype of each task."""

    def loss(self, inferred: Inferred) -> tuple[Tensor, Metrics]:
        config, z, task = self.config, inferred.all_global.z, inferred.task
        half = len(task) // 2
        pairwise = info_nce(z[:, :half], z[:, half : 2 * half], task[:half], config.temperature)
        prototypes = prototype_nce(z, inferred.prototypes, task, config.temperature)
        metrics: Metrics = {"encoder/info_nce": pairwise.detach(), "encoder/prototype_nce": prototypes.detach()}
        return config.pairwise_coef * pairwise + config.prototype_coef * prototypes, metrics


class KlToPrior(Objective):
    """KL(q(z|c) || N(0, I)); of posteriors without variance, nothing."""

    def loss(self, inferred: Inferred) -> tuple[Tensor, Metrics]:
        kl = kl_to_prior(inferred.all_global.q).mean() if self.config.posterior == "gaussian" else torch.zeros(())
        return self.config.kl_coef * kl, {"encoder/kl": kl.detach()}
