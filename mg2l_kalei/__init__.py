"""Meta multi-agent reinforcement learning by task inference, with shared, masked policies."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mg2l_kalei.training.callbacks import Callback, StopTraining, TrainingEvent, TrainingResult
    from mg2l_kalei.training.plan import train
    from mg2l_kalei.training.plugins import configure
    from mg2l_kalei.training.saved_run import LoadedRun, load_run

_EXPORTS = {  # name -> module of mg2l_kalei.training
    "Callback": "callbacks",
    "LoadedRun": "saved_run",
    "StopTraining": "callbacks",
    "TrainingEvent": "callbacks",
    "TrainingResult": "callbacks",
    "configure": "plugins",
    "load_run": "saved_run",
    "train": "plan",
}
__all__ = [
    "Callback",
    "LoadedRun",
    "StopTraining",
    "TrainingEvent",
    "TrainingResult",
    "configure",
    "load_run",
    "train",
]
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
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if shadow := shadow_of_envs():
        raise ImportError(shadow)
    return getattr(importlib.import_module(f"mg2l_kalei.training.{_EXPORTS[name]}"), name)
