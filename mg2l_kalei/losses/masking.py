"""Means over some entries of an array. What is left out is never computed with: 0 times infinity would be NaN."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mg2l_kalei.processes import ALONE, Processes


def masked_mean(x: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of x over entries where ``weight`` (same shape, bool) is True; None: over all. Of none it is 0."""
    if weight is None:
        return x.mean()
    return torch.where(weight, x, 0.0).sum() / weight.sum().clamp(min=1)


def mean_squared_error(predicted: Tensor, target: Tensor, alive: Tensor | None, processes: Processes = ALONE) -> Tensor:
    """Mean of squared differences of (..., width), over entries where ``alive`` (...) bool is True; None: all.

    The mean of it over processes is that over all their entries.
    """
    if alive is None:
        return F.mse_loss(predicted, target)
    own = F.mse_loss(predicted[alive], target[alive]) if alive.any() else predicted[alive].sum()
    return own * processes.share(alive.sum())
