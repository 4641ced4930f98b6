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
    count: Tensor  # ()   total weight of what was seen
    shift: Tensor  # (size,)   mean and deviation as float32, to normalise by
    scale: Tensor  # (size,)

    def __init__(self, size: int, *, decay: float = 1.0, clip: float = math.inf, min_std: float = 1e-4) -> None:
        super().__init__()
        self.decay, self.clip, self.min_std = decay, clip, min_std
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("var", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(size), persistent=False)
        self.register_buffer("scale", torch.ones(size), persistent=False)
        self.register_load_state_dict_post_hook(lambda moments, _: moments._round())

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take in ``(..., size)``; all axes but the last are one batch. An empty batch changes nothing."""
        rows = x.reshape(-1, x.shape[-1]).to(self.mean.dtype)
        n = rows.shape[0]
        if n == 0:
            return
        var, mean = torch.var_mean(rows, dim=0, correction=0)
        old = self.count * self.decay
        total = old + n
        delta = mean - self.mean
        self.mean.add_(delta * (n / total))
        self.var.copy_((self.var * old + var * n + delta.square() * (old * n / total)) / total)
        self.count.copy_(total)
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
