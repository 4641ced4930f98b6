"""What is worth looking at of how weights are shared: data of pictures, which the evaluation draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class PointFigure(NamedTuple):
    """A picture of points, each of one agent, and of who belongs together."""

    name: str  # of the file
    title: str
    points: Tensor  # (N, d), drawn in the plane in which they differ most
    groups: Sequence[int]  # of each


class MemberFigure(NamedTuple):
    """A picture of how members differ, by pairs and one by one."""

    name: str  # of the file
    title: str
    pairs: Tensor  # (G, G)
    pairs_label: str
    each: Tensor  # (G,)
    each_label: str


SharingFigure = MemberFigure | PointFigure
