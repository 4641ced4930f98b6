"""Keyword sets as they are written in settings, and the tasks that they make."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from envs.core import Refusal, Task

_COMMENT = re.compile(r"(?:^|\s)#")  # YAML would drop it without a word
_NEXT_KEYWORD = re.compile(r"\s+(?=[^\W\d]\w*=)")
_KEYWORD = re.compile(r"([^\W\d]\w*)=(.+)", re.DOTALL)


def read_keywords(text: str) -> dict[str, Any]:
    """``N=2 local_ratio=0.3`` -> {"N": 2, "local_ratio": 0.3}, values as YAML reads them. Raises ValueError."""
    keywords: dict[str, Any] = {}
    for part in _NEXT_KEYWORD.split(text.strip()) if text.strip() else ():
        match = _KEYWORD.fullmatch(part)
        if match is None:
            raise Refusal(f"{text!r}: expected keywords as in 'N=2 local_ratio=0.3', not {part!r}")
        name, value = match.groups()
        if name in keywords:
            raise Refusal(f"{text!r}: {name} is given twice")
        keywords[name] = _value(text, part, value)
    return keywords


def _value(text: str, part: str, value: str) -> Any:
    try:
        if "\n" in value or _COMMENT.search(value):
            raise Refusal("more than one value")
        read = OmegaConf.to_container(OmegaConf.create(f"value: {value}"), resolve=False)
        assert isinstance(read, dict)
        json.dumps(read, allow_nan=False)
    except (YAMLError, OmegaConfBaseException, AssertionError, TypeError, ValueError) as error:
        raise Refusal(f"{text!r}: {part!r} is no number, text, true, false, null or list of these") from error
    return read["value"]


def read_tasks(splits: Mapping[str, Sequence[str]]) -> tuple[Task, ...]:
    """A task for each keyword set, in the order of ``splits`` (split -> texts). Raises ValueError.

    Features are the numbers that differ between tasks, scaled so that those of train and test fill [-1, 1]; where
    something else differs than numbers that every set gives, the one-hot number of the task.
    """
    names = [split for split, texts in splits.items() for _ in texts]
    sets = [read_keywords(text) for texts in splits.values() for text in texts]
    for place, keywords in enumerate(sets):
        if keywords in sets[:place]:
            raise Refusal(f"{names[place]}: the keywords '{_written(keywords)}' are given twice")
    inside = [split != "ood" for split in names]
    features = zip(*_scaled_numbers(sets, inside), strict=True) if _differ_in_numbers(sets) else _one_hot(len(sets))
    return tuple(map(Task, map(_written, sets), sets, map(tuple, features), names))


def _differing(sets: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name for name in sets[0] if any(keywords[name] != sets[0][name] for keywords in sets)]


def _differ_in_numbers(sets: Sequence[Mapping[str, Any]]) -> bool:
    if len(sets) == 1 or any(keywords.keys() != sets[0].keys() for keywords in sets):
        return False
    return all(isinstance(keywords[name], (int, float)) for name in _differing(sets) for keywords in sets)


def _scaled_numbers(sets: Sequence[Mapping[str, Any]], inside: Sequence[bool]) -> list[list[float]]:
    """A column for each number that differs."""
    columns = []
    for name in _differing(sets):
        of_range = [keywords[name] for keywords, is_inside in zip(sets, inside, strict=True) if is_inside]
        low, width = min(of_range), max(of_range) - min(of_range) or 1
        columns.append([2 * (keywords[name] - low) / width - 1 for keywords in sets])
    return columns


def _one_hot(n: int) -> list[list[float]]:
    return [[float(i == j) for j in range(n)] for i in range(n)]


def _written(keywords: Mapping[str, Any]) -> str:
    """A keyword set in one way of writing it, which names its task."""
    pairs = (f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in keywords.items())
    return " ".join(pairs) or "no keywords"
