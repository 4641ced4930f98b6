"""Action distributions, one per agent: log-probabilities and entropies are (..., N)."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class ActionDistribution(Protocol):
    """What a policy gives for each agent."""

    def sample(self, generator: torch.Generator) -> Tensor:
        """A random action: (..., N, A) float, or (..., N) int64."""
        ...

    def mode(self) -> Tensor:
        """The likeliest action."""
        ...

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-density or log-probability of ``action``: (..., N)."""
        ...

    def entropy(self) -> Tensor:
        """In nats: (..., N)."""
        ...


class DiagonalGaussian(NamedTuple):
    """Independent normal action dimensions. Padded ones (mask False) are always 0 and count nowhere."""

    mean: Tensor  # (..., N, A)
    log_std: Tensor  # broadcastable to (..., N, A)
    mask: Tensor | None = None  # (N, A) bool

    def sample(self, generator: torch.Generator) -> Tensor:
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self._without_padding(self.mean + self.log_std.exp() * noise)

    def mode(self) -> Tensor:
        return self._without_padding(self.mean)

    def log_prob(self, action: Tensor) -> Tensor:
        standardised = (action - self.mean) * (-self.log_std).exp()
        per_dimension = -0.5 * (standardised.square() + math.log(2 * math.pi)) - self.log_std
        return self._without_padding(per_dimension).sum(-1)

    def entropy(self) -> Tensor:
        per_dimension = 0.5 * (1 + math.log(2 * math.pi)) + self.log_std
        return self._without_padding(per_dimension.expand_as(self.mean)).sum(-1)

    def _without_padding(self, per_dimension: Tensor) -> Tensor:
        return per_dimension if self.mask is None else per_dimension.masked_fill(~self.mask, 0.0)


class Categorical(NamedTuple):
    """A choice among actions. Make it with ``categorical``, which rules out illegal ones."""

    log_probs: Tensor  # (..., N, n_actions), normalised

    def sample(self, generator: torch.Generator) -> Tensor:
        # As ``torch.multinomial`` draws one, number for number; but that stops to look at the probabilities, which a
        # GPU has to be waited for with. NaN passes: what checks the rollout names where it began.
        flat = self.log_probs.flatten(0, -2).exp()
        race = torch.empty_like(flat).exponential_(generator=generator)  # the first to arrive, at this speed, wins
        return (flat / race).argmax(-1).view(self.log_probs.shape[:-1])

    def mode(self) -> Tensor:
        return self.log_probs.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        return self.log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        return -(self.log_probs.exp() * self.log_probs).sum(-1)


def categorical(logits: Tensor, legal: Tensor | None = None) -> Categorical:
    """The distribution of ``logits`` (..., N, n_actions) over the actions that are ``legal`` (same shape, bool).

    Illegal actions have probability 0 and a finite, hugely negative log-probability, so that entropies and gradients
    stay finite. A row without any legal action, such as a departed agent's, is as if all were legal.
    """
    if legal is not None:
        allowed = legal | ~legal.any(-1, keepdim=True)
        logits = logits.masked_fill(~allowed, torch.finfo(logits.dtype).min / 2)
    return Categorical(F.log_softmax(logits, dim=-1))
