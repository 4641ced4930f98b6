"""What these families need and others do not: imported when the first one is made, and named where it is missing."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from functools import cache
from importlib import metadata
from types import ModuleType

from envs.core import Refusal
from envs.extras import install

PACKAGES = ("mujoco", "gymnasium", "gymnasium-robotics")


def versions() -> dict[str, str]:
    """Of all that decides what the robots do. Raises ValueError, in one line, where something is missing or too old."""
    try:
        found = {name: metadata.version(name) for name in PACKAGES}
        with _without("MUJOCO_GL"):  # or MuJoCo loads what it names on import, and fails if that does not work
            importlib.import_module("mujoco.batch")
    except ImportError as error:  # metadata's PackageNotFoundError is one
        raise Refusal(f"MuJoCo families need mujoco 4 or newer: {install('mujoco')}") from error
    return found


@contextmanager
def _without(variable: str) -> Iterator[None]:
    value = os.environ.pop(variable, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[variable] = value


@cache
def obsk_module() -> ModuleType:
    """gymnasium-robotics' partitions; without its message on import, about robots that are not used here."""
    with redirect_stderr(io.StringIO()):
        return importlib.import_module("gymnasium_robotics.envs.multiagent_mujoco.obsk")
