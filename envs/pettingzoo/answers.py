"""What an environment answers, read with suspicion: whatever is not as PettingZoo has it is a Complaint."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.core import one_line
from envs.pettingzoo.factory import Complaint

Space: TypeAlias = spaces.Space[Any]
Array: TypeAlias = NDArray[Any]
ByAgent: TypeAlias = Mapping[Any, Any]

OF_RESET = ("observations", "infos")
OF_STEP = ("observations", "rewards", "terminations", "truncations", "infos")


def parts(answer: Any, call: str, names: Sequence[str]) -> tuple[ByAgent, ...]:
    """The parts of what a call of an environment answered, each by agent."""
    if not isinstance(answer, (tuple, list)) or len(answer) != len(names):
        given = f"{len(answer)} values" if isinstance(answer, (tuple, list)) else f"a {type(answer).__name__}"
        raise Complaint(f"{call}() gave {given}: it must return ({', '.join(names)})")
    for name, part in zip(names, answer, strict=True):
        if not isinstance(part, Mapping):
            raise Complaint(f"{call}() gave {in_words(part)} as {name}: they must be a dict by agent")
    return tuple(answer)


def given(what: ByAgent, agent: Any, name: str) -> Any:
    """Of an agent that has acted, or is to act next."""
    if what.get(agent) is None:
        raise Complaint(f"the environment gave {'None as' if agent in what else 'no'} {name} of {agent}")
    return what[agent]


def info_of(infos: ByAgent, agent: Any) -> Mapping[str, Any]:
    """Of any agent: empty where there is none."""
    info = infos.get(agent)
    if info is not None and not isinstance(info, Mapping):
        raise Complaint(f"the info of {agent} is {in_words(info)}: it must be a dict")
    return info or {}


def number(value: Any, what: str, agent: Any, expected: str = "a number") -> float:
    """A number of an agent, also as an array of one. ``what`` it is, and what is expected, in words."""
    if isinstance(value, (float, int)):
        return value
    array = as_numbers(value)
    if array is None or array.size != 1:
        raise Complaint(f"the {what} of {agent} is {in_words(value)}: it must be {expected}")
    return float(array[0])


def flag(flags: ByAgent, agent: Any, what: str) -> bool:
    """Whether it is up: that of an agent that has none is not."""
    return bool(number(flags.get(agent, False), what, agent, "true or false"))


def as_numbers(value: Any) -> Array | None:
    """Numbers in a row (n,), of any dtype; None: they are none."""
    try:
        array = np.asarray(value)
    except Exception:  # there are many ways to be no array
        return None
    return array.ravel() if array.dtype.kind in "biuf" else None


def flatten(space: Space, value: Any, said: str) -> Array:
    """A value of a space as a vector (flatdim,) float32; ``said``: who gave it, as in ``"agent_0 observed"``."""
    if isinstance(space, spaces.Box):
        array = as_numbers(value)
        if array is None or array.size != math.prod(space.shape):
            raise Complaint(f"{said} {in_words(value)}, where its space is {space}")
        return array.astype(np.float32, copy=False)
    if isinstance(space, spaces.Dict) and isinstance(value, Mapping) and space.keys() <= value.keys():
        return np.concatenate([flatten(part, value[key], said) for key, part in space.items()])
    if isinstance(space, spaces.Tuple) and isinstance(value, Sequence) and len(value) == len(space):
        return np.concatenate([flatten(part, item, said) for part, item in zip(space, value, strict=True)])
    if isinstance(space, spaces.Discrete):
        value = _whole(value)
    if isinstance(space, (spaces.Dict, spaces.Tuple)) or not space.contains(value):
        raise Complaint(f"{said} {one_line(reprlib.repr(value))}, where its space is {space}")
    return np.asarray(spaces.flatten(space, np.asarray(value)), dtype=np.float32)


def _whole(value: Any) -> Any:
    """A whole number out of an array of one; anything else as it is."""
    array = as_numbers(value)
    return int(array[0]) if array is not None and array.size == 1 and array.dtype.kind in "iu" else value


def in_words(value: Any) -> str:
    """How many numbers it is, or what else."""
    array = as_numbers(value)
    if array is None:
        return one_line(reprlib.repr(value))
    return "1 number" if array.size == 1 else f"{array.size} numbers"
