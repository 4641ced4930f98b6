"""How many rows and columns of an actor's layers members mask as a whole, so that leaving them out would save time.

``python benchmarks/whole_rows.py RUN_DIR...``: of the newest checkpoint of each run with ``sharing=kaleidoscope``, one
JSON line per layer: shares over members, and what is left of the products when such rows and columns are cut out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

ACTOR = "actor/"  # in the names of its weights


def whole_rows(weight: Tensor, thresholds: Tensor) -> dict[str, float]:
    """weight (out, in), thresholds (G, out, in)."""
    masks = weight.abs() > thresholds.sigmoid()
    rows, columns = masks.any(2), masks.any(1)  # (G, out), (G, in)   where something is left
    left = rows.float().mean(1) * columns.float().mean(1)
    return {
        "sparsity": float(1 - masks.float().mean()),
        "masked_rows": float(1 - rows.float().mean()),
        "masked_columns": float(1 - columns.float().mean()),
        "left_by_cutting": float(left.mean()),
    }


def main(runs: list[str]) -> None:
    for run in runs:
        newest = max(Path(run).glob("checkpoints/step-*/weights.safetensors"))
        weights = load_file(newest)
        for name in sorted(weights):
            layer, _, kind = name.rpartition(".")
            if kind == "thresholds" and ACTOR in name:
                counted = whole_rows(weights[f"{layer}.weight"], weights[name])
                shape = list(weights[name].shape)
                print(json.dumps({"run": Path(run).name, "layer": layer.split(ACTOR)[-1], "shape": shape} | counted))


if __name__ == "__main__":
    main(sys.argv[1:])
