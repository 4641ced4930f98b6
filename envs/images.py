"""What is said of vectors that are images."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Images(NamedTuple):
    """Images in a vector: one after the other, each of them (height, width, channels), flattened."""

    n: int
    height: int
    width: int
    channels: int
    is_bytes: bool = False  # uint8, from 0 to 255; False: float32

    @property
    def size(self) -> int:
        return self.n * self.height * self.width * self.channels

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8 if self.is_bytes else torch.float32
