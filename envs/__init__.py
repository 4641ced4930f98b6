"""Task families, by name.

The package holds batched environments alone and knows nothing of the learning system.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envs.families import ENVS, make_family

__all__ = ["ENVS", "make_family"]


def __getattr__(name: str) -> Any:
    """Import families once they are asked for: what they need takes seconds, and settings can be shown without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from envs import families

    return getattr(families, name)
