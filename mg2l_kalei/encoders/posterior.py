"""Diagonal Gaussian posteriors over latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mg2l_kalei.encoders.pooling import linear
from mg2l_kalei.losses.inference import Gaussian

LOG_STD_RANGE = (-5.0, 1.0)


def prior_where(empty: Tensor, q: Gaussian) -> Gaussian:
    """N(0, I) where nothing has been observed, else q: empty () or (L,) bool over the leading axis."""
    mask = empty.reshape(empty.shape + (1,) * (q.mean.dim() - empty.dim()))
    return Gaussian(q.mean.masked_fill(mask, 0.0), q.log_std.masked_fill(mask, 0.0))


class PosteriorLayer(nn.Module):
    """One hidden layer, then mean and log standard deviation: (..., width) -> Gaussian over (..., latent_dim).

    Without the hidden layer where it ``is_linear``: then latents between those trained on mean what lies between.
    """

    def __init__(self, width: int, latent_dim: int, generator: torch.Generator, *, is_linear: bool = False) -> None:
        super().__init__()
        self.hidden = nn.Identity() if is_linear else nn.Sequential(linear(width, width, generator), nn.GELU())
        self.output = linear(width, 2 * latent_dim, generator)

    def forward(self, x: Tensor) -> Gaussian:
        mean, log_std = self.output(self.hidden(x)).chunk(2, dim=-1)
        return Gaussian(mean, log_std.clamp(*LOG_STD_RANGE))
