"""Environments that draw themselves: they are made for it, and their pictures are read with suspicion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.core import CannotDraw, Picture
from envs.pettingzoo.answers import in_words
from envs.pettingzoo.factory import Complaint, accepts, in_one_line, make_env
from envs.pettingzoo.interrupts import raise_interruption
from envs.pettingzoo.layout import Env

RENDER_MODE = {"render_mode": "rgb_array"}  # PettingZoo's words for pictures that nobody is shown


def make_drawn(factory: str, keywords: Mapping[str, Any]) -> Env:
    """As ``make_env`` does, with ``RENDER_MODE`` where the factory takes it. Raises CannotDraw where it then fails."""
    wished = {**RENDER_MODE, **keywords}
    try:
        return make_env(factory, wished if accepts(factory, wished) else keywords)
    except Complaint as error:
        raise CannotDraw(str(error)) from error


def picture_of(env: Env, place: str) -> Picture | None:
    """What ``render()`` gives; None where there is no such method. Raises CannotDraw, naming ``place``."""
    try:
        given = env.render()
    except NotImplementedError:
        return None
    except BaseException as error:
        raise_interruption(error)
        raise CannotDraw(f"{place}: render() raised {in_one_line(error)}") from error
    if isinstance(given, np.ndarray) and given.dtype == np.uint8 and given.ndim == 3 and given.shape[-1] == 3:
        return given.copy()  # some draw into the same array again
    shown = f"{given.shape} {given.dtype}" if isinstance(given, np.ndarray) else in_words(given)
    raise CannotDraw(f"{place}: render() gave {shown}: expected a picture (height, width, 3) uint8")
