"""Running moments of a stream of vectors, to standardise by."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class RunningMoments(nn.Module):
    """Mean and variance per feature of everything that was shown to ``update``; all state is in its buffers.

    Batches are merged by Chan et al.'s formula in float64. ``decay`` < 1 weighs earlier batches down by that factor at
    each update, for streams that drift, such as value targets; the first update alone already gives unbiased moments.
    ``clip`` bounds the size of normalised values, ``min_std`` the deviation that is divided by.
    """

    mean: Tensor  # (size,)
    var: Tensor  # (size,)
    count: Tensor  # (size,)   total weight of what was seen
    shift: Tensor  # (size,)   mean and deviation as float32, to normalise by
    scale: Tensor  # (size,)

    def __init__(self, size: int, *, decay: float = 1.0, clip: float = math.inf, min_std: float = 1e-4) -> None:
        super().__init__()
        self.decay, self.clip, self.min_std = decay, clip, min_std
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("var", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(size), persistent=False)
        self.register_buffer("scale", torch.ones(size), persistent=False)
        self.register_load_state_dict_post_hook(lambda moments, _: moments._round())

    @torch.no_grad()
    def update(self, x: Tensor, where: Tensor | None = None) -> None:
        """Take in ``(..., size)``; all axes but the last are one batch. Of features that are empty nothing changes.

        ``where`` (..., size) bool: the entries that there are; None: all.
        """
        rows = x.reshape(-1, x.shape[-1]).to(self.mean.dtype)
        if not len(rows):
            return
        if where is None:
            n = torch.full_like(self.count, len(rows))
            var, mean = torch.var_mean(rows, dim=0, correction=0)
        else:
            counts = where.reshape(rows.shape)
            n = counts.sum(0).to(self.count.dtype)
            mean = torch.where(counts, rows, 0.0).sum(0) / n
            var = torch.where(counts, rows - mean, 0.0).square().sum(0) / n
        old = self.count * self.decay
        total = old + n
        delta = mean - self.mean
        merged_var = (self.var * old + var * n + delta.square() * (old * n / total)) / total
        is_new = n > 0
        self.mean.copy_(torch.where(is_new, self.mean + delta * (n / total), self.mean))
        self.var.copy_(torch.where(is_new, merged_var, self.var))
        self.count.copy_(torch.where(is_new, total, self.count))
        self._round()

    def normalise(self, x: Tensor) -> Tensor:
        """``(..., size)`` with mean 0 and deviation 1. Before the first update: x, clipped."""
        return ((x - self.shift) / self.scale).clamp(-self.clip, self.clip)

    def denormalise(self, x: Tensor) -> Tensor:
        """The inverse of ``normalise`` where that did not clip."""
        return x * self.scale + self.shift

    @property
    def std(self) -> Tensor:
        """Standard deviation, at least ``min_std``: (size,) float64."""
        return self.var.sqrt().clamp(min=self.min_std)

    def _round(self) -> None:
        self.shift.copy_(self.mean)
        self.scale.copy_(self.std)
