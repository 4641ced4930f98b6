"""Random numbers of a batch's rows: one row's early end shifts nobody else's.

Every row reads the generator's stream as if all rows had restarted whenever it did. So its numbers follow from its own
restarts alone; rows that restart together read the same part of the stream, each its own entries; and where all
restart together, as in families whose episodes are equally long, the generator is read just once and in order.
Rows that are out of step may come across the same part of the stream at different times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
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
        self._rows: dict[int, Tensor] = {}  # number of restarts -> rows (B,) bool that restarted so often

    def restart(self, draw: Draw, where: Tensor | None = None) -> Drawn:
        """What rows draw where ``where`` (B,) bool is True (None: a common start). Other rows' entries mean nothing."""
        if where is None:
            self._n_restarts[:], self._places = 0, {}
            return draw(self._generator)
        chosen = where.cpu().numpy()
        if not self._places:
            if chosen.all():
                return draw(self._generator)
            self._set_out({int(self._n_restarts[0]): self._generator.get_state()}, where.device)
        counts = np.unique(self._n_restarts[chosen if chosen.any() else slice(1)]).tolist()
        drawn, after = self._read(draw, counts)
        self._n_restarts[chosen] += 1
        self._set_out({**{count + 1: place for count, place in after.items()}, **self._places}, where.device)
        return drawn

    def step(self, draw: Draw) -> Drawn:
        """What all rows draw in a step."""
        if not self._places:
            return draw(self._generator)
        drawn, self._places = self._read(draw, self._places)  # the last read is that of most restarts
        return drawn

    def _read(self, draw: Draw, counts: Iterable[int]) -> tuple[Drawn, Places]:
        """What rows draw that restarted so often, each at its place, and the places after that."""
        drawn: Drawn = ()
        after = {}
        for count in counts:
            self._generator.set_state(self._places[count])
            part = draw(self._generator)
            after[count] = self._generator.get_state()
            drawn = tuple(_rows_of(new, old, self._rows[count]) for new, old in zip(part, drawn or part, strict=True))
        return drawn, after

    def _set_out(self, places: Places, device: torch.device) -> None:
        """Go on from these places, of which those are kept, by number of restarts, where a row is."""
        counts = np.unique(self._n_restarts).tolist()
        self._places = {count: places[count] for count in counts}
        self._rows = {count: torch.from_numpy(self._n_restarts == count).to(device) for count in counts}
        self._generator.set_state(places[counts[-1]])


def _rows_of(new: Tensor, old: Tensor, where: Tensor) -> Tensor:
    return torch.where(where.view(-1, *[1] * (new.dim() - 1)), new, old)
