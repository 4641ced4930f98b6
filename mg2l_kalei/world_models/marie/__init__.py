"""MARIE (Zhang et al. 2025, TMLR, arXiv 2406.15836): decentralised token dynamics with a centralised aggregation."""

from __future__ import annotations

from mg2l_kalei.world_models.marie.config import MarieConfig
from mg2l_kalei.world_models.marie.model import Marie

__all__ = ["Marie", "MarieConfig"]
