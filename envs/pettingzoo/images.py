"""Images among what PettingZoo environments show: which these are, and how they lie in a vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from envs.images import Images
from envs.pettingzoo.answers import Array
from envs.pettingzoo.factory import Complaint


class Form(NamedTuple):
    """Of an image, as an environment gives it."""

    shape: tuple[int, int, int]
    is_bytes: bool  # uint8

    @property
    def has_channels_first(self) -> bool:
        """Whether the first axis is that of the channels: where it is the shortest, as in (3, 84, 84)."""
        return self.shape[0] < min(self.shape[1:])

    def read(self, numbers: Array, said: str) -> Array:
        """The image (height, width, channels) that is these numbers (n,). ``said``: who gave it."""
        with np.errstate(invalid="ignore"):
            if self.is_bytes and not np.array_equal(numbers, numbers.astype(np.uint8)):
                raise Complaint(f"{said} other numbers than 0 to 255, where its image is of uint8")
        image = numbers.reshape(self.shape)
        return np.moveaxis(image, 0, -1) if self.has_channels_first else image


def form_of(shape: Sequence[int], dtype: DTypeLike) -> Form | None:
    """An array of three axes is an image; any other is None."""
    if len(shape) != 3 or 0 in shape:
        return None
    return Form((shape[0], shape[1], shape[2]), np.dtype(dtype) == np.uint8)


def common(forms: Sequence[Form | None]) -> Images | None:
    """What all of these fit into, an image; None where some are no images, or of another type."""
    known = [form for form in forms if form is not None]
    if len(known) < len(forms) or len({form.is_bytes for form in known}) != 1:
        return None
    shapes = [(*form.shape[1:], form.shape[0]) if form.has_channels_first else form.shape for form in known]
    height, width, channels = np.max(shapes, axis=0).tolist()
    return Images(1, height, width, channels, is_bytes=known[0].is_bytes)


def paste(image: Array, into: Array, canvas: Images) -> None:
    """Write an image (height, width, channels) into the upper left of ``into`` (canvas.size,), zero elsewhere."""
    height, width, channels = image.shape
    into[:] = 0
    into.reshape(canvas.height, canvas.width, canvas.channels)[:height, :width, :channels] = image
