"""Runs as reports find them: a folder with what evaluations stored, and nothing that was trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mg2l_kalei.evaluation.results import AdaptationResult, to_json

METHODS = {  # recipe: encoder, sharing, memory, level
    "mappo": ("none", "full", "none", 0.0),
    "oracle": ("oracle", "full", "none", 10.0),
    "rl2": ("none", "full", "trial", 3.0),
    "mg2l_kalei": ("mg2l", "kaleidoscope", "none", 8.0),
}
Make = Callable[..., AdaptationResult]


def settings_of(recipe: str) -> str:
    encoder, sharing, memory, _ = METHODS[recipe]
    return (
        f"algo: {recipe}\nseed: 0\nn_iters: 5\nenv: {{kind: named}}\nencoder: {{kind: {encoder}}}\n"
        f"sharing: {{kind: {sharing}}}\nlearner: {{kind: mappo}}\nnetwork: {{memory: {memory}}}\n"
    )


def stored(results: Path, make_result: Make, recipe: str, seed: int, **changed: Any) -> Path:
    """The folder of an evaluated run: nothing but settings, raw results, logged evaluations and a film."""
    folder = results / recipe / f"s{seed}"
    (folder / "evaluation").mkdir(parents=True)
    level = METHODS[recipe][-1]
    result = make_result([level, level + 1], n_trials=8, seed=seed)._replace(seed=seed, latents=None, **changed)
    (folder / "config.yaml").write_text(settings_of(recipe))
    (folder / "evaluation" / "test.json").write_text(to_json(result))
    rows = [{"iteration": i, "env_steps": 100 * i, "evaluation/test/return_k1": level * i / 3} for i in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "film.gif").write_bytes(b"GIF89a")
    return folder
