"""Values on a logarithmic scale, as classes: uniform bins of symlog, and regression by classification over them."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn


def symlog(x: Tensor) -> Tensor:
    """sign(x) ln(1 + |x|)."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """The inverse of ``symlog``."""
    return x.sign() * x.abs().expm1()


class Bins(nn.Module):
    """``n`` bins of equal width over [-limit, limit], of x or of symlog(x); any shape (...).

    What is beyond counts as the outermost bin; the first time, a warning says so. ``name``: what x is, for that.
    """

    edges: Tensor  # (n + 1,)

    def __init__(self, name: str, n: int, limit: float, *, is_log: bool = True) -> None:
        super().__init__()
        self.name, self.n, self.limit, self.is_log = name, n, limit, is_log
        self.register_buffer("edges", torch.linspace(-limit, limit, n + 1), persistent=False)
        self._has_warned = False

    @property
    def centres(self) -> Tensor:
        """(n,), on the scale of the bins."""
        return (self.edges[:-1] + self.edges[1:]) / 2

    def scaled(self, x: Tensor) -> Tensor:
        """x on the scale of the bins, within them. Raises ValueError where x is NaN."""
        y = symlog(x) if self.is_log else x
        beyond = ~(y.abs() <= self.limit)
        if not beyond.any():
            return y
        if y.isnan().any():
            raise ValueError(f"{self.name} is NaN")
        if not self._has_warned:
            self._has_warned = True
            greatest = math.expm1(self.limit) if self.is_log else self.limit
            size = float(x.abs().max())
            warnings.warn(f"{self.name}: {size:g} is beyond {greatest:g}, and clamped", RuntimeWarning, stacklevel=2)
        return y.clamp(-self.limit, self.limit)

    def index(self, x: Tensor) -> Tensor:
        """The bins of x: (...) int64."""
        return torch.bucketize(self.scaled(x), self.edges[1:-1], right=True)

    def value(self, index: Tensor) -> Tensor:
        """The middles of bins (...)."""
        middle = self.centres[index]
        return symexp(middle) if self.is_log else middle

    def probabilities(self, x: Tensor, spread: float) -> Tensor:
        """A normal distribution around each x, ``spread`` bins wide, over the bins: (..., n).

        Targets of HL-Gauss (Farebrother et al. 2024, arXiv 2403.03950, eq. 3.3).
        """
        deviation = spread * 2 * self.limit / self.n
        below = torch.special.ndtr((self.edges - self.scaled(x).unsqueeze(-1)) / deviation)
        return below.diff(dim=-1) / (below[..., -1:] - below[..., :1])

    def mean(self, logits: Tensor) -> Tensor:
        """The value that a distribution over bins, (..., n) logits, has in the mean on their scale: (...)."""
        middle = logits.softmax(-1) @ self.centres
        return symexp(middle) if self.is_log else middle
