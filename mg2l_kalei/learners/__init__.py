"""Learners, by name."""

from __future__ import annotations

from typing import Any

from mg2l_kalei.learners.base import Learner
from mg2l_kalei.learners.mappo import Mappo, MappoConfig

LEARNERS: dict[str, tuple[type[Learner], Any]] = {
    "mappo": (Mappo, MappoConfig()),
}
