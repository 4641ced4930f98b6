"""What local latents are trained by: to say of the task what the global one says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from mg2l_kalei.encoders.objectives.base import Inferred, Objective
from mg2l_kalei.losses.inference import (
    Gaussian,
    info_nce,
    kl_divergence,
    kl_to_prior,
    prototype_nce,
)
from mg2l_kalei.types import Metrics


class Pair(NamedTuple):
    """Both levels, of contexts of all processes; no gradient goes into q, z and the prototypes."""

    q: Gaussian  # (L, R, dim)
    z: Tensor  # (L, R, dim)
    q_local: Gaussian  # (N, L, R, dim)
    z_local: Tensor  # (N, L, R, dim)
    task: Tensor  # (R,)
    prototypes: Tensor  # (n_train_tasks, dim)


def conditional_information(config: Any, pair: Pair) -> Tensor:
    """What z^i sets of I(z; c | z^i) = I(z; c) - I(z; z^i): InfoNCE of z^i with z, in place of the second term.

    Its negatives are of other tasks, so that it is no bound; the figure that is logged is (``information_bound``).
    Prototypes stand for z where contrast trains them; where nothing does, they would be labels that z knows nothing of.
    """
    nce = info_nce(pair.z_local, pair.z.expand_as(pair.z_local), pair.task, config.temperature)
    if not config.trains_prototypes:
        return nce
    prototypes = prototype_nce(pair.z_local, pair.prototypes, pair.task, config.temperature)
    return nce + config.prototype_coef * prototypes


def posterior_consistency(config: Any, pair: Pair) -> Tensor:
    """KL(q(z|c) || q^i(z^i|c^i))."""
    return kl_divergence(pair.q, pair.q_local).mean()


LOCAL_OBJECTIVES: dict[str, Callable[[Any, Pair], Tensor]] = {
    "conditional_information": conditional_information,
    "posterior_consistency": posterior_consistency,
}


class Local(Objective):
    """``local_objective``, and KL(q^i || N(0, I)) where posteriors have variance."""

    def loss(self, inferred: Inferred) -> tuple[Tensor, Metrics]:
        config, pair = self.config, pair_of(inferred)
        loss = LOCAL_OBJECTIVES[config.local_objective](config, pair)
        if config.posterior == "gaussian":
            loss = loss + config.kl_coef * kl_to_prior(pair.q_local).mean()
        return loss, {"encoder/local_loss": loss.detach()}


class LocalContrast(Objective):
    """Each z^i told by itself which task it is in, as ``Contrast`` tells z: "local only" among the paper's ablations.

    Without other objectives no layer learns from the team's context by the encoder's own loss.
    """

    trains_all_by_local = True

    def loss(self, inferred: Inferred) -> tuple[Tensor, Metrics]:
        config, task = self.config, inferred.task
        q, z = pair_of(inferred)[2:4]  # (N, L, R, dim)
        half = len(task) // 2
        pairwise = info_nce(z[:, :, :half], z[:, :, half : 2 * half], task[:half], config.temperature)
        prototypes = prototype_nce(z, inferred.prototypes, task, config.temperature)
        loss = config.pairwise_coef * pairwise + config.prototype_coef * prototypes
        if config.posterior == "gaussian":
            loss = loss + config.kl_coef * kl_to_prior(q).mean()
        return loss, {"encoder/local_contrast": loss.detach()}


def pair_of(inferred: Inferred) -> Pair:
    q, z = inferred.all_global
    q_local = Gaussian._make(part.movedim(2, 0) for part in inferred.all_local.q)
    z_local = inferred.all_local.z.movedim(2, 0)
    return Pair(q.detach(), z.detach(), q_local, z_local, inferred.task, inferred.prototypes.detach())
