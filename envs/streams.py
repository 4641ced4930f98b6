"""Random numbers of a batch's rows: one row's early end shifts nobody else's.

Every row reads the generator's stream as if all rows had restarted whenever it did. So its numbers follow from its own
restarts alone; rows that restart together read the same part of the stream, each its own entries; and where all
restart together, as in families whose episodes are equally long, the generator is read just once and in order.
Rows that are out of step may come across the same part of the stream at different times.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Drawn = tuple[Tensor, ...]  # each (B, ...), an entry per row
Draw = Callable[[torch.Generator], Drawn]
Places = dict[int, Tensor]  # number of restarts -> state of the generator


class RowStreams:
    """The stream of ``generator`` for each of B rows, from one common start of all to the next.

    Draws are functions of the generator that always take as much of the stream, so rows that restarted equally often
    are at the same place of it, whenever that was: there are as many places to remember as such numbers. Where steps
    draw too, starts draw no normal numbers, half a pair of which a generator may keep for later.
    Between draws the generator stands where the rows stand that restarted most often: nothing read before comes again.
    """

    def __init__(self, generator: torch.Generator, n_rows: int) -> None:
        self._generator = generator
        self._n_restarts = np.zeros(n_rows, np.int64)  # since the common start
        self._places: Places = {}  # empty: all rows are in step

    def restart(self, draw: Draw, where: Tensor | None = None) -> Drawn:
        """What rows draw where ``where`` (B,) bool is True (None: a common start). Other rows' entries mean nothing."""
        if where is None:
            self._n_restarts[:], self._places = 0, {}
            return draw(self._generator)
        chosen = where.cpu().numpy()
        if chosen.all() and not self._places:
            return draw(self._generator)
        places = self._places or {int(self._n_restarts[0]): self._generator.get_state()}
        drawn, after = self._read(draw, chosen, places)
        self._n_restarts[chosen] += 1
        self._go_on({**{count + 1: place for count, place in after.items()}, **places})
        return drawn

    def step(self, draw: Draw) -> Drawn:
        """What all rows draw in a step."""
        if not self._places:
            return draw(self._generator)
        drawn, after = self._read(draw, np.ones_like(self._n_restarts, np.bool_), self._places)
        self._go_on(after)
        return drawn

    def _read(
        self, draw: Draw, chosen: NDArray[np.bool_], places: dict[int, Tensor]
    ) -> tuple[Drawn, dict[int, Tensor]]:
        """What the rows chosen draw, each at its place (if none is, anything), and the places after that."""
        drawn: Drawn = ()
        after = {}
        for count in np.unique(self._n_restarts[chosen if chosen.any() else slice(1)]).tolist():
            self._generator.set_state(places[count])
            part = draw(self._generator)
            after[count] = self._generator.get_state()
            here = torch.from_numpy(self._n_restarts == count).to(part[0].device)
            drawn = tuple(_rows_of(new, old, here) for new, old in zip(part, drawn or part, strict=True))
        return drawn, after

    def _go_on(self, places: Places) -> None:
        counts = np.unique(self._n_restarts).tolist()
        self._places = {count: places[count] for count in counts} if len(counts) > 1 else {}
        self._generator.set_state(places[counts[-1]])


def _rows_of(new: Tensor, old: Tensor, where: Tensor) -> Tensor:
    return torch.where(where.view(-1, *[1] * (new.dim() - 1)), new, old)
