"""Losses of task inference: contrast, mutual information bounds and KL divergences of diagonal Gaussians."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Gaussian(NamedTuple):
    """A diagonal normal distribution."""

    mean: Tensor  # (..., dim)
    log_std: Tensor  # (..., dim)

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """A reparametrised sample: (..., dim)."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device)
        return self.mean + self.log_std.exp() * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of z (..., dim), summed over dim: (...)."""
        standardised = (z - self.mean) * (-self.log_std).exp()
        return (-0.5 * standardised.square() - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def detach(self) -> Gaussian:
        return Gaussian(self.mean.detach(), self.log_std.detach())


def kl_to_prior(q: Gaussian) -> Tensor:
    """KL(q || N(0, I)) in nats: (...)."""
    return (0.5 * (q.mean.square() + (2 * q.log_std).exp() - 1) - q.log_std).sum(-1)


def kl_divergence(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) in nats: (...)."""
    variance_ratio = (2 * (q.log_std - p.log_std)).exp()
    shift = ((q.mean - p.mean) * (-p.log_std).exp()).square()
    return (0.5 * (variance_ratio + shift - 1) + p.log_std - q.log_std).sum(-1)


def cosine_logits(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Cosine similarities over temperature: (..., R, dim), (..., K, dim) -> (..., R, K)."""
    return F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).mT / temperature


def info_nce(queries: Tensor, keys: Tensor, task: Tensor, temperature: float) -> Tensor:
    """InfoNCE loss of pairs, whose negatives are of other tasks: (..., R, dim) twice, task (R,) -> scalar.

    The positive of query r is key r; its negatives are keys of *other tasks* (van den Oord et al. 2018, eq. 4, with
    normalised embeddings). Other keys of its own task are neither, so that it is not a bound on any information: log R
    less this loss may be above what there is. ``information_bound`` is one.
    """
    same_task = task.unsqueeze(-1) == task
    neither = same_task & ~torch.eye(len(task), dtype=torch.bool, device=task.device)
    logits = cosine_logits(queries, keys, temperature).masked_fill(neither, -math.inf)  # (..., R, R)
    positive = torch.arange(len(task), device=task.device).expand(logits.shape[:-1])
    return F.cross_entropy(logits.flatten(0, -2), positive.flatten())


def information_bound(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Lower bound on the mutual information of a pair, in nats, from R pairs: (..., R, dim) twice -> scalar.

    InfoNCE with *all* other rows as negatives, whatever their task: they must be draws of the marginal. At most log R.
    """
    logits = cosine_logits(queries, keys, temperature)  # (..., R, R)
    R = logits.shape[-1]
    own = torch.arange(R, device=logits.device).expand(logits.shape[:-1])
    return math.log(R) - F.cross_entropy(logits.flatten(0, -2), own.flatten())


def prototype_nce(queries: Tensor, prototypes: Tensor, task: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of queries (..., R, dim) against one key per task (n_tasks, dim), task (R,) -> scalar.

    Where training tasks are equally likely, log n_tasks less this is a Barber-Agakov lower bound on I(z; M). It has no
    saddle at z = 0.
    """
    logits = cosine_logits(queries, prototypes, temperature)  # (..., R, n_tasks)
    return F.cross_entropy(logits.flatten(0, -2), task.expand(logits.shape[:-1]).flatten())


def leave_one_out_bound(q: Gaussian, z: Tensor) -> Tensor:
    """Upper bound on I(z; c) from samples z_r ~ q(. | c_r): (R, dim) -> scalar, in nats (Poole et al. 2019, eq. 13)."""
    R = z.shape[0]
    log_density = Gaussian(q.mean.unsqueeze(0), q.log_std.unsqueeze(0)).log_prob(
        z.unsqueeze(1)
    )  # (R, R): z_r under q_k
    own = torch.eye(R, dtype=torch.bool, device=z.device)
    others = log_density.masked_fill(own, -math.inf).logsumexp(1) - math.log(R - 1)
    return (log_density.diagonal() - others).mean()


def nearest_neighbour_accuracy(queries: Tensor, task: Tensor, keys: Tensor, key_task: Tensor) -> Tensor:
    """How often the key most like a query is of its task: (..., R, dim), (R,), (..., K, dim), (K,) -> scalar in [0, 1].

    Chance is 1 / tasks where the queries' tasks are equally likely, whatever the keys' are.
    """
    nearest = cosine_logits(queries, keys, 1.0).argmax(-1)  # (..., R)
    return (key_task[nearest] == task).float().mean()
