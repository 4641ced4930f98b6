"""State dicts as JSON that refers to tensors by name, bit for bit and back. JSON only: nothing in it can run code.

What JSON lacks is an object with one key: ``$tensor`` (a name), ``$float`` (``nan``, ``inf``, ``-inf``), ``$tuple``,
and ``$int_keys`` (dicts with integer keys, which torch's optimisers have).
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from mg2l_kalei.types import State


def encode(state: State) -> tuple[Any, dict[str, Tensor]]:
    """A JSON tree, and the tensors that it names. Raises TypeError naming the first entry that is of another type."""
    tensors: dict[str, Tensor] = {}
    return _encode(state, "", tensors), tensors


def decode(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """What ``encode`` was given. Raises KeyError or ValueError for a tree that it cannot have written."""
    if isinstance(tree, list):
        return [decode(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    tag = next((key for key in tree if key.startswith("$")), None)
    if tag is None:
        return {key: decode(item, tensors) for key, item in tree.items()}
    (content,) = tree.values()
    if tag == "$tensor":
        return tensors[content]
    if tag == "$float":
        return float(content)
    if tag == "$tuple":
        return tuple(decode(item, tensors) for item in content)
    if tag == "$int_keys":
        return {int(key): decode(item, tensors) for key, item in content.items()}
    raise ValueError(f"unknown tag {tag}")


def _encode(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, Tensor):
        return {"$tensor": _named(value, path, tensors)}
    if isinstance(value, dict):
        return _encode_dict(value, path, tensors)
    if type(value) in (list, tuple):  # not NamedTuples, which would come back as plain tuples
        items = [_encode(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    raise TypeError(f"state entry {path or '/'}: {type(value).__name__} cannot be saved: {_ALLOWED}")


def _encode_dict(value: dict[Any, Any], path: str, tensors: dict[str, Tensor]) -> Any:
    kinds = {type(key) for key in value}
    items = {str(key): _encode(item, f"{path}/{key}", tensors) for key, item in value.items()}
    if kinds == {int}:
        return {"$int_keys": items}
    if kinds - {str} or any(key.startswith("$") for key in items):
        raise TypeError(
            f"state entry {path or '/'}: keys are texts not starting with $, or integers; not {list(value)}"
        )
    return items


def _named(tensor: Tensor, path: str, tensors: dict[str, Tensor]) -> str:
    name = path or "/"
    while name in tensors:  # {"a/b": x} and {"a": {"b": x}} have one path
        name += "'"
    tensors[name] = tensor
    return name


_ALLOWED = "only tensors, numbers, strings, None, lists, tuples and dicts are"
