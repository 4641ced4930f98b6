"""Several processes that train one run together; today there is one, for which every reduction is the identity."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn


class Processes(NamedTuple):
    """Where gradients and logged metrics are averaged over processes. Running statistics are still each one's own."""

    rank: int = 0
    size: int = 1

    def mean(self, x: Tensor) -> Tensor:
        """The mean of x over all processes, of x's shape."""
        return x

    def mean_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their mean over all processes."""


ALONE = Processes()
