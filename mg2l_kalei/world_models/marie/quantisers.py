"""Continuous codes made discrete: by the nearest entry of a codebook, or by rounding each number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-5  # of Laplace's smoothing of counts


class Quantised(NamedTuple):
    token: Tensor  # (...) int64
    code: Tensor  # (..., D)   gradients go straight through to z
    loss: Tensor  # scalar, what z owes for being off its code


class Quantiser(nn.Module, ABC):
    """``n_codes`` codes of width ``code_dim``."""

    n_codes: int
    code_dim: int

    @abstractmethod
    def forward(self, z: Tensor) -> Quantised:
        """z (..., D) by its codes."""

    @abstractmethod
    def codes(self, index: Tensor) -> Tensor:
        """(...) int64 -> (..., D)."""

    def follow(self, z: Tensor, index: Tensor, generator: torch.Generator) -> None:
        """Codes learn from z (S, D) that had codes ``index`` (S,)."""


class Codebook(Quantiser):
    """Nearest of learned codes (van den Oord et al. 2017, arXiv 1711.00937), each a running mean of what it stood for.

    Codes of a running count below ``revive_below`` become some of what was to be coded; 0: they stay as they are, and
    grow without bound while nothing is coded by them.
    """

    codebook: Tensor  # (V, D)
    code_sum: Tensor  # (V, D)   running sum of what each code stood for
    code_count: Tensor  # (V,)   running count of it

    def __init__(
        self, n_codes: int, code_dim: int, generator: torch.Generator, *, decay: float, revive_below: float
    ) -> None:
        super().__init__()
        self.n_codes, self.code_dim, self.decay, self.revive_below = n_codes, code_dim, decay, revive_below
        codebook = torch.empty(n_codes, code_dim)
        nn.init.kaiming_uniform_(codebook, generator=generator)
        self.register_buffer("codebook", codebook)
        self.register_buffer("code_sum", codebook.clone())
        self.register_buffer("code_count", torch.zeros(n_codes))

    def forward(self, z: Tensor) -> Quantised:
        index = torch.cdist(z.detach(), self.codebook).argmin(-1)
        code = self.codes(index)
        return Quantised(index, z + (code - z).detach(), F.mse_loss(z, code))

    def codes(self, index: Tensor) -> Tensor:
        return F.embedding(index, self.codebook)

    @torch.no_grad()
    def follow(self, z: Tensor, index: Tensor, generator: torch.Generator) -> None:
        count = torch.bincount(index, minlength=self.n_codes).to(z.dtype)
        total = torch.zeros_like(self.code_sum).index_add_(0, index, z)
        self.code_count.lerp_(count, 1 - self.decay)
        self.code_sum.lerp_(total, 1 - self.decay)
        whole = self.code_count.sum()
        smoothed = (self.code_count + EPS) / (whole + self.n_codes * EPS) * whole
        self.codebook.copy_(self.code_sum / smoothed.unsqueeze(-1))
        if self.revive_below:
            self._revive(z, generator)

    def _revive(self, z: Tensor, generator: torch.Generator) -> None:
        is_dead = (self.code_count < self.revive_below).unsqueeze(-1)  # (V, 1)
        drawn = z[torch.randint(len(z), (self.n_codes,), generator=generator, device=z.device)]
        self.codebook.copy_(torch.where(is_dead, drawn, self.codebook))
        self.code_sum.copy_(torch.where(is_dead, drawn * self.revive_below, self.code_sum))
        self.code_count.clamp_(min=self.revive_below)


class FiniteScalars(Quantiser):
    """Each number of z, bounded, is rounded to one of its ``levels`` (Mentzer et al. 2023, arXiv 2309.15505)."""

    levels: Tensor  # (D,)
    basis: Tensor  # (D,)   what a step of each number adds to the index

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        ones = torch.ones(1, dtype=torch.int64)
        self.register_buffer("basis", torch.cat([ones, self.levels[:-1]]).cumprod(0), persistent=False)
        self.code_dim, self.n_codes = len(levels), int(self.levels.prod())

    def forward(self, z: Tensor) -> Quantised:
        bounded = self.bounded(z)
        level = bounded + (bounded.round() - bounded).detach()  # (..., D)
        half = self.levels // 2
        index = ((level.detach().round().long() + half) * self.basis).sum(-1)
        return Quantised(index, level / half, z.new_zeros(()))

    def codes(self, index: Tensor) -> Tensor:
        half = self.levels // 2
        return (index.unsqueeze(-1) // self.basis % self.levels - half) / half

    def bounded(self, z: Tensor) -> Tensor:
        """z (..., D) squashed to where rounding gives the levels: of an even number, one more below 0 than above."""
        half = (self.levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        return (z + (offset / half).atanh()).tanh() * half - offset
