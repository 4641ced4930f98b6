"""MARIE's published code on small sizes, as arrays: repository breez3young/MARIE, commit b2a60f6, float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "marie"


def arrays(name: str) -> dict[str, Tensor]:
    """Those of a file; halves, which hold weights exactly, as single precision."""
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as stored:
        tensors = {key: torch.from_numpy(stored[key]) for key in stored}
    return {key: x.float() if x.dtype in (torch.float16, torch.float64) else x for key, x in tensors.items()}


def of_part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with ``prefix``, without it."""
    return {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}


def close(own: Tensor, golden: Tensor) -> None:
    """Equal to 1e-5, relative where numbers are large."""
    torch.testing.assert_close(own.detach(), golden.view_as(own), rtol=1e-5, atol=1e-5, check_dtype=False)
