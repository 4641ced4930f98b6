"""Named tensors as safetensors bytes: the one place that knows the format's rules. Nothing in it can run code."""

from __future__ import annotations

from collections.abc import Mapping

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

MAX_HEADER = 1 << 24  # bytes; a header names tensors, about 100 bytes each
_LENGTH = 8  # bytes of the header's length, little-endian, at the start


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors of any device, layout and sharing, as safetensors. Tensors that share memory are stored one by one."""
    seen: set[int] = set()
    stored = {}
    for name, tensor in tensors.items():
        dense = tensor.detach().to("cpu").contiguous()
        memory = dense.untyped_storage().data_ptr()
        stored[name] = dense.clone() if memory in seen else dense
        seen.add(memory)
    return safetensors.torch.save(stored)


def from_bytes(content: bytes) -> dict[str, Tensor]:
    """CPU tensors by name, each with memory of its own. Raises ValueError for anything but safetensors."""
    header = int.from_bytes(content[:_LENGTH], "little")
    if header > min(MAX_HEADER, len(content) - _LENGTH):
        raise ValueError(f"no safetensors: a header of {header} bytes in a file of {len(content)} (limit {MAX_HEADER})")
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        raise ValueError(f"no safetensors: {error}") from error
