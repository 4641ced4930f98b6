"""How well tasks are inferred: figures of contexts of trials that an encoder was not trained on."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mg2l_kalei.losses.inference import Gaussian, information_bound, leave_one_out_bound, nearest_neighbour_accuracy
from mg2l_kalei.types import Metrics


class Reading(NamedTuple):
    """What is inferred from R contexts, and the tasks that they are of."""

    global_: Gaussian  # (R, dim)
    local: Gaussian  # (R, N, dim)
    task: Tensor  # (R,) int64


@torch.no_grad()
def figures_of(unseen: Reading, stored: Reading, latents: tuple[Tensor, Tensor], temperature: float) -> Metrics:
    """Metrics under ``encoder/`` of ``unseen``, whose neighbours are looked for in ``stored`` contexts.

    ``latents``: z (R, dim) and z^i (R, N, dim) of the unseen, drawn from their posteriors. An unseen trial is
    independent of those stored, so that memory of these says nothing of its task: it reads chance, 1 / tasks.
    """
    z, z_local = latents[0], latents[1].transpose(0, 1)  # (N, R, dim)
    information = leave_one_out_bound(unseen.global_, z)
    shared = information_bound(z_local, z.expand_as(z_local), temperature)
    of_global, of_local = (unseen.global_.mean, stored.global_.mean), (unseen.local.mean, stored.local.mean)
    by_agent = tuple(mean.transpose(0, 1) for mean in of_local)  # (N, R, dim), (N, K, dim)
    return {
        "encoder/information": information,  # upper bound on I(z; c)
        "encoder/conditional_information": information - shared,  # upper bound on I(z; c | z^i)
        "encoder/contrastive_accuracy_global": _accuracy(of_global, unseen.task, stored.task),
        "encoder/contrastive_accuracy_local": _accuracy(by_agent, unseen.task, stored.task),
    }


def _accuracy(means: tuple[Tensor, ...], task: Tensor, stored_task: Tensor) -> Tensor:
    return nearest_neighbour_accuracy(means[0], task, means[1], stored_task)
