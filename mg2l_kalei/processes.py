"""Several processes that train one run together; alone, every reduction is the identity."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn


class Processes(NamedTuple):
    """The one place where what processes know is put together: gradients, statistics, and decisions.

    Every process must make the same calls in the same order, with tensors of the same shape. Whoever decides by data of
    its own whether to make one asks ``any`` first.
    """

    rank: int = 0
    size: int = 1

    def sum(self, x: Tensor) -> Tensor:
        """The sum of x over all processes, of x's shape; without gradient."""
        return x

    def mean(self, x: Tensor) -> Tensor:
        """The mean of x over all processes, of x's shape; without gradient."""
        return x if self.size == 1 else self.sum(x) / self.size

    def gather(self, x: Tensor, dim: int = 0) -> Tensor:
        """Every process's x, one after the other along ``dim``.

        With gradient to this process's own part, ``size`` times: of a loss of what was gathered, which is then the same
        in all processes, the mean of the gradients is the gradient.
        """
        return x

    def own(self, n: int) -> slice:
        """Where in what was gathered this process's ``n`` entries are."""
        return slice(self.rank * n, (self.rank + 1) * n)

    def broadcast(self, x: Tensor) -> Tensor:
        """The x of the first process, of x's shape; without gradient."""
        return x

    def any(self, claim: bool) -> bool:
        """Whether the claim is true in some process."""
        return claim

    def share(self, n: Tensor) -> Tensor | float:
        """What to multiply a mean over ``n`` entries by, so that its mean over all processes is that over all entries.

        1 where every process has as many.
        """
        return 1.0 if self.size == 1 else n / self.mean(n).clamp(min=1 / self.size)

    def mean_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their mean over all processes."""


ALONE = Processes()
