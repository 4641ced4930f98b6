"""Learners, by name."""

from __future__ import annotations

from typing import Any

from mg2l_kalei.learners.base import Experience, Learner, Setup
from mg2l_kalei.learners.mappo import Mappo, MappoConfig
from mg2l_kalei.learners.matd3 import Matd3, Matd3Config
from mg2l_kalei.learners.qmix import Qmix, QmixConfig

__all__ = ["LEARNERS", "Experience", "Learner", "Setup"]

LEARNERS: dict[str, tuple[type[Learner], Any]] = {
    "mappo": (Mappo, MappoConfig()),
    "matd3": (Matd3, Matd3Config()),
    "qmix": (Qmix, QmixConfig()),
}
