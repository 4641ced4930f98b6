"""Meta multi-agent reinforcement learning by task inference, with shared, masked policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mg2l_kalei.training.saved_run import LoadedRun, load_run

__all__ = ["LoadedRun", "load_run"]


def __getattr__(name: str) -> Any:
    """Import what is exported once it is asked for: it takes seconds, in which programs must answer to Ctrl-C."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mg2l_kalei.training import saved_run

    return getattr(saved_run, name)
