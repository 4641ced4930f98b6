"""Inference by regression: what tasks pay is linear in learned features, and a context says with which weights.

Bayesian linear regression on learned features after ALPaCA (Harrison et al. 2018, arXiv 1807.08912). The prior of the
weights is the distribution that training tasks have: weights of unseen tasks are found between theirs, which a
contrast with training tasks alone does not give.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mg2l_kalei.encoders.pooling import Pooling, PoolState, linear, sums_to
from mg2l_kalei.losses.masking import mean_squared_error
from mg2l_kalei.processes import ALONE, Processes

MIN_NOISE = 0.01  # variance of standardised rewards that is never taken for explained
NOISE_RATE = 0.05  # of the running mean of it
JITTER = 1e-4  # variance in each direction of the weights' prior, also where training tasks do not differ
ROUNDING = 1e-6  # of the precision's trace: what sums in single precision may be off by
FIRST_SPREAD = 0.3  # of the weights at first


class RewardFeatures(nn.Module):
    """r = common + w . features + noise, both linear in what is known of (o, a, o'), with a vector w for each task.

    Learned by predicting the rewards of training tasks, and by nothing else. With ``n_agents`` above 1 there is a w for
    each agent in each task: all have features in common, and learn from one another what may be paid for.
    """

    noise: Tensor  # ()   variance, the running mean of the squared error
    embedding_layers: tuple[nn.Module, ...] = ()  # no gradient of an embedding reaches it or what is before it

    def __init__(
        self, in_features: int, n_features: int, n_tasks: int, generator: torch.Generator, n_agents: int = 1
    ) -> None:
        super().__init__()
        self.n_agents = n_agents
        self.common, self.features = linear(in_features, 1, generator), linear(in_features, n_features, generator)
        self.weights = nn.Parameter(FIRST_SPREAD * torch.randn(n_tasks * n_agents, n_features, generator=generator))
        self.register_buffer("noise", torch.ones(()))

    def forward(self, known: Tensor, reward: Tensor) -> Tensor:
        """known (..., in_features), reward (..., 1) -> (..., n_features + 1), without gradient.

        Features, scaled so that w ~ N(0, I) over training tasks, then the reward beyond what is common; both in units
        of the noise's standard deviation.
        """
        with torch.no_grad():
            w = self._centred_weights()
            prior = w.T @ w / len(w) + JITTER * torch.eye(w.shape[1], device=w.device)
            features = self.features(known) @ torch.linalg.cholesky_ex(prior).L
            return torch.cat([features, reward - self.common(known)], dim=-1) * self.noise.clamp_min(MIN_NOISE).rsqrt()

    def error(
        self, known: Tensor, reward: Tensor, task: Tensor, alive: Tensor | None = None, processes: Processes = ALONE
    ) -> Tensor:
        """Mean squared error of predicting each reward (..., N, 1) by the weights of training task (..., N, 1) int64.

        Over the entries where ``alive`` (..., N) is True; None: over all. It is taken into the running mean ``noise``.
        """
        of = task if self.n_agents == 1 else task * self.n_agents + numbers_of(task)
        w = self._centred_weights()[of.squeeze(-1)]
        predicted = self.common(known) + (self.features(known) * w).sum(-1, keepdim=True)
        error = mean_squared_error(predicted, reward, alive, processes)
        self.noise.lerp_(processes.mean(error.detach()), NOISE_RATE)
        return error

    def _centred_weights(self) -> Tensor:
        """(n_tasks n_agents, n_features); what they share is in ``common``."""
        return self.weights - self.weights.mean(dim=0)


def numbers_of(task: Tensor) -> Tensor:
    """Of agents, (N, 1) int64, for tasks (..., N, 1)."""
    return torch.arange(task.shape[-2], device=task.device).unsqueeze(-1)


class RegressionPooling(Pooling):
    """Posterior mean of the weights by which the last of an embedding is linear in the others, then a linear layer.

    Prior N(0, I), noise N(0, 1): (I + sum f f^T)^-1 sum f y, from two running sums. Embeddings (..., n_features + 1).
    """

    def __init__(self, n_features: int, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.n_features = n_features
        self.output = linear(n_features, dim, generator)

    def initial(self, shape: tuple[int, ...]) -> PoolState:
        n, device = self.n_features, self.output.weight.device
        return torch.eye(n, device=device).expand(*shape, n, n), torch.zeros(*shape, n, device=device)

    def add(self, state: PoolState, embedding: Tensor, alive: Tensor) -> PoolState:
        precision, moment = self._terms(embedding, alive)
        return state[0] + precision, state[1] + moment

    def read(self, state: PoolState) -> Tensor:
        precision, moment = state  # (..., n, n), (..., n)
        diagonal = precision.diagonal(dim1=-2, dim2=-1)
        safe = precision + torch.diag_embed((ROUNDING * diagonal.sum(-1, keepdim=True)).expand_as(diagonal))
        factor, failed = torch.linalg.cholesky_ex(safe)  # fails where transitions are not finite: so is what is read
        weights = torch.cholesky_solve(moment.unsqueeze(-1), factor).squeeze(-1)
        weights = weights.masked_fill(failed.unsqueeze(-1) > 0, math.nan)
        pooled: Tensor = self.output(weights)
        return pooled

    def prefixes(self, embeddings: Tensor, lengths: Tensor, alive: Tensor) -> Tensor:
        precision, moment = self._terms(embeddings, alive)
        prior_precision, prior_moment = self.initial(())
        return self.read((sums_to(precision, lengths) + prior_precision, sums_to(moment, lengths) + prior_moment))

    def _terms(self, embedding: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
        embedding = torch.where(alive.unsqueeze(-1), embedding, 0.0)
        features, value = embedding.split((self.n_features, 1), dim=-1)
        return features.unsqueeze(-1) * features.unsqueeze(-2), features * value
