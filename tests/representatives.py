"""One family, or sharing scheme, of each kind, for tests that all owe: the others are played by ``make slow``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from mg2l_kalei.sharing import SHARINGS

# By the other schemes, between which they lie.
STOOD_FOR = ("heads", "hypernet", "kaleidoscope_published", "low_rank", "snp")
MAIN_SHARINGS = [pytest.param(kind, marks=pytest.mark.slow) if kind in STOOD_FOR else kind for kind in SHARINGS]

REPRESENTATIVES = {
    "mpe-hunting",
    "mpe-simple-tag",
    "mpe-spread",
    "mpe-wind",
    "mujoco-ant-4x2",
    "mujoco-cheetah-dir",
    "pettingzoo",
    "rware-color",
    "rware-color-published",
    "rware-layout-large",
    "rware-tiny-2ag",
    "toy-arms",
    "toy-corners",
    "toy-turns",
}


def one_per_kind(names: Iterable[str]) -> list[Any]:
    """All names, of which those that another stands for are slow."""
    return [name if name in REPRESENTATIVES else pytest.param(name, marks=pytest.mark.slow) for name in names]
