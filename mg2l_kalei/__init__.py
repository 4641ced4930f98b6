"""Meta multi-agent reinforcement learning by task inference, with shared, masked policies."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mg2l_kalei.training.saved_run import LoadedRun, load_run

__all__ = ["LoadedRun", "load_run"]
__version__ = "0.1.0"


def shadow_of_envs() -> str:
    """A line that names another package ``envs`` that Python finds before the one beside this package; or empty."""
    spec = find_spec("envs")
    places = [] if spec is None else spec.submodule_search_locations or [spec.origin or ""]
    ours = Path(__file__).resolve().parents[1] / "envs"
    if ours in [Path(place).resolve() for place in places]:
        return ""
    found = places[0] if places else "nowhere"
    return f"the package envs is found in {found}, expected {ours}: rename the other one, or start elsewhere"


def __getattr__(name: str) -> Any:
    """Import what is exported once it is asked for: it takes seconds, in which programs must answer to Ctrl-C."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if shadow := shadow_of_envs():
        raise ImportError(shadow)
    from mg2l_kalei.training import saved_run

    return getattr(saved_run, name)
