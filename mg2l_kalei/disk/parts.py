"""The parts of a checkpoint: ``weights``, all that acting needs, and ``training``, which going on needs too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mg2l_kalei.disk import state_json, tensor_file
from mg2l_kalei.disk.durable import read_bounded
from mg2l_kalei.disk.manifest import FileEntry, check
from mg2l_kalei.types import State

WEIGHTS, TRAINING = PARTS = ("weights", "training")


def file_names(part: str) -> tuple[str, str]:
    """Of its tensors, and of all else."""
    return f"{part}.safetensors", f"{part}.json"


def encode(part: str, state: State) -> dict[str, bytes]:
    """Its files. Raises ValueError for weights that are NaN, TypeError naming an entry that cannot be saved."""
    tree, tensors = state_json.encode(state)
    _refuse_nan_weights(part, tensors)
    contents = tensor_file.to_bytes(tensors), json.dumps(tree, allow_nan=False).encode()
    return dict(zip(file_names(part), contents, strict=True))


def read(folder: Path, part: str, files: Mapping[str, FileEntry]) -> State:
    """The part in ``folder``, every byte of it checked first. Raises OSError, and for damage ValueError, KeyError,
    TypeError, AttributeError or RecursionError."""
    contents = [check(name, read_bounded(folder / name, files[name].size), files[name]) for name in file_names(part)]
    tensors = tensor_file.from_bytes(contents[0])
    _refuse_nan_weights(part, tensors)
    state = state_json.decode(json.loads(contents[1]), tensors)
    if not isinstance(state, dict):
        raise ValueError(f"{part} is no dict, but {type(state).__name__}")
    return state


def _refuse_nan_weights(part: str, tensors: Mapping[str, Tensor]) -> None:
    """Infinities may be meant, as masks of attention have them, and training may remember that a loss was NaN."""
    for name, tensor in tensors.items():
        if part == WEIGHTS and tensor.is_floating_point() and torch.isnan(tensor).any():
            raise ValueError(f"the weights {name} are NaN")
