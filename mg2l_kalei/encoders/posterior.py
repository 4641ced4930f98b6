"""Diagonal Gaussian posteriors over latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mg2l_kalei.encoders.pooling import linear
from mg2l_kalei.losses.inference import Gaussian

LOG_STD_RANGE = (-5.0, 1.0)


def prior_where(empty: Tensor, q: Gaussian) -> Gaussian:
    """N(0, I) where nothing has been observed, else q: empty () or (L,) bool over the leading axis."""
    mask = empty.reshape(empty.shape + (1,) * (q.mean.dim() - empty.dim()))
    return Gaussian(q.mean.masked_fill(mask, 0.0), q.log_std.masked_fill(mask, 0.0))


class PosteriorLayer(nn.Module):
    """One hidden layer, then mean and log standard deviation: (..., width) -> Gaussian over (..., latent_dim)."""

    def __init__(self, width: int, latent_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.hidden = linear(width, width, generator)
        self.output = linear(width, 2 * latent_dim, generator)

    def forward(self, x: Tensor) -> Gaussian:
        mean, log_std = self.output(F.gelu(self.hidden(x))).chunk(2, dim=-1)
        return Gaussian(mean, log_std.clamp(*LOG_STD_RANGE))
