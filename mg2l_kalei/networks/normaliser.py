"""Running moments of a stream of vectors, to standardise by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mg2l_kalei.processes import ALONE, Processes


class Moments(NamedTuple):
    """Of one batch, per feature (size,). Where there are no entries, mean and variance are 0."""

    n: Tensor
    mean: Tensor
    var: Tensor


class RunningMoments(nn.Module):
    """Mean and variance per feature of everything that was shown to ``update``; all state is in its buffers.

    Batches are merged by Chan et al.'s formula in float64. ``decay`` < 1 weighs earlier batches down by that factor at
    each update, for streams that drift, such as value targets; the first update alone already gives unbiased moments.
    ``clip`` bounds the size of normalised values, ``min_std`` the deviation that is divided by. ``kept`` features stay
    as they are.
    """

    mean: Tensor  # (size,)
    var: Tensor  # (size,)
    count: Tensor  # (size,)   total weight of what was seen
    shift: Tensor  # (size,)   mean and deviation as float32, to normalise by
    scale: Tensor  # (size,)

    def __init__(
        self,
        size: int,
        *,
        decay: float = 1.0,
        clip: float = math.inf,
        min_std: float = 1e-4,
        kept: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.decay, self.clip, self.min_std, self.kept = decay, clip, min_std, list(kept)
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("var", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(size), persistent=False)
        self.register_buffer("scale", torch.ones(size), persistent=False)
        self.register_load_state_dict_post_hook(lambda moments, _: moments._round())

    @torch.no_grad()
    def update(self, x: Tensor, where: Tensor | None = None, processes: Processes = ALONE) -> None:
        """Take in ``(..., size)``; all axes but the last are one batch. Of features that are empty nothing changes.

        ``where`` (..., size) bool: the entries that there are; None: all. Batches of all processes are one batch.
        """
        if not len(self.count):
            return
        batches = processes.gather(torch.stack(self._of_batch(x, where)).unsqueeze(0))  # (processes, 3, size)
        batch = reduce(merged, (Moments(*moments) for moments in batches))
        now = merged(Moments(self.count * self.decay, self.mean, self.var), batch)
        is_new = batch.n > 0
        for buffer, value in ((self.mean, now.mean), (self.var, now.var), (self.count, now.n)):
            buffer.copy_(torch.where(is_new, value, buffer))
        self._round()

    def _of_batch(self, x: Tensor, where: Tensor | None) -> Moments:
        rows = x.reshape(-1, x.shape[-1]).to(self.mean.dtype)
        if where is None and len(rows):
            var, mean = torch.var_mean(rows, dim=0, correction=0)
            return Moments(torch.full_like(self.count, len(rows)), mean, var)
        counts = torch.ones_like(rows, dtype=torch.bool) if where is None else where.reshape(rows.shape)
        n = counts.sum(0).to(self.count.dtype)
        mean = torch.where(counts, rows, 0.0).sum(0) / n.clamp(min=1)
        var = torch.where(counts, rows - mean, 0.0).square().sum(0) / n.clamp(min=1)
        return Moments(n, mean, var)

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
        if self.kept:
            self.shift[self.kept], self.scale[self.kept] = 0.0, 1.0


def merged(a: Moments, b: Moments) -> Moments:
    """Moments of both batches together (Chan et al. 1979)."""
    count = a.n + b.n
    total = torch.where(count > 0, count, 1.0)
    delta = b.mean - a.mean
    var = (a.var * a.n + b.var * b.n + delta.square() * (a.n * b.n / total)) / total
    return Moments(count, a.mean + delta * (b.n / total), var)
