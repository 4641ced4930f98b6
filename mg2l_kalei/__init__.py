"""Meta multi-agent reinforcement learning by task inference, with shared, masked policies."""

from __future__ import annotations

from mg2l_kalei.training.saved_run import LoadedRun, load_run

__all__ = ["LoadedRun", "load_run"]
