"""Inference by a product of Gaussians, a factor for each transition (PEARL, Rakelly et al. 2019, arXiv 1903.08254).

The posterior *is* the product: nothing is learned on top of it. An agent's own is the product over its transitions, the
team's that over all agents' transitions, of the same factors: what trains the one trains the other. Other than in PEARL
the prior N(0, I) is a factor too, so that an empty context is the prior.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mg2l_kalei.encoders.pooling import Pooling, PoolState, linear, sums_to
from mg2l_kalei.losses.inference import Gaussian

FACTOR_LOG_STD = (-2.0, 5.0)  # from a transition that tells all to one that tells nothing


class GaussianProductPooling(Pooling):
    """Mean and log standard deviation of N(0, I) x prod_t N(mean(e_t), std(e_t)): (..., 2 latent_dim).

    The state is two running sums: of precisions, and of means weighted by them.
    """

    def __init__(self, dim: int, latent_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.factor = linear(dim, 2 * latent_dim, generator)

    def initial(self, shape: tuple[int, ...]) -> PoolState:
        weight = self.factor.weight
        ones = torch.ones(*shape, weight.shape[0] // 2, device=weight.device)
        return ones, torch.zeros_like(ones)

    def add(self, state: PoolState, embedding: Tensor, alive: Tensor) -> PoolState:
        precision, moment = self._terms(embedding, alive)
        return state[0] + precision, state[1] + moment

    def read(self, state: PoolState) -> Tensor:
        precision, moment = state
        return torch.cat([moment / precision, -0.5 * precision.log()], dim=-1)

    def prefixes(self, embeddings: Tensor, lengths: Tensor, alive: Tensor) -> Tensor:
        precision, moment = self._terms(embeddings, alive)
        return self.read((1 + sums_to(precision, lengths), sums_to(moment, lengths)))

    def _terms(self, embedding: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
        """Each factor's precision, and its mean weighted by that; 0 where there is none."""
        mean, log_std = self.factor(embedding).chunk(2, dim=-1)
        precision = torch.where(alive.unsqueeze(-1), (-2 * log_std.clamp(*FACTOR_LOG_STD)).exp(), 0.0)
        return precision, precision * mean


class ProductOverAgents(nn.Module):
    """The team's posterior out of its agents', which all hold the prior: it counts once."""

    def pool(self, x: Tensor) -> Tensor:
        """(..., N, 2 latent_dim) -> (..., 2 latent_dim)."""
        mean, log_std = x.chunk(2, dim=-1)
        precision = (-2 * log_std).exp()
        total = 1 + (precision - 1).sum(-2)
        return torch.cat([(precision * mean).sum(-2) / total, -0.5 * total.log()], dim=-1)


class GivenPosterior(nn.Module):
    """What was pooled is the posterior: (..., 2 latent_dim) -> Gaussian over (..., latent_dim)."""

    def forward(self, x: Tensor) -> Gaussian:
        return Gaussian._make(x.chunk(2, dim=-1))
