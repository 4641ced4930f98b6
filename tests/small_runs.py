"""Runs of a second: their command line, and what they leave behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mg2l_kalei.config import load, run_dir
from mg2l_kalei.disk.parts import PARTS
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA

ALL = {
    "n_iters": 4,
    "n_rows": 4,
    "n_threads": 1,
    "device": "cpu",
    "checkpoint_interval": 1,
    "eval_interval": 2,
    "eval_episodes": 2,
    "eval_trials": 2,
    "env.episode_steps": 4,
    "network.hidden": "[8]",
    "context.batch": 4,
    "context.length": 4,
    "context.n_updates": 2,
    "context.n_early_iterations": 0,
    "replay.capacity": 6,  # so that the ring comes round
    "context.explore_rows": 2,
    "context.explore_interval": 2,
}
BY_KIND: dict[str, dict[str, Any]] = {  # settings that a kind of an axis has
    "mappo": {"learner.n_epochs": 2, "learner.n_minibatches": 2},
    "matd3": {"learner.batch": 8, "learner.critic_reset_interval": 16},
    "mg2l": {"encoder.hidden": "[8]", "encoder.latent_dim": 4, "encoder.n_heads": 2},
    "qmix": {"learner.batch": 4, "learner.updates_per_episode": 0.5, "learner.target_update": 5},
    "continuous": {
        "world_model.first_trials": 4,
        "world_model.score_interval": 1,
        "world_model.imagined_rollouts": 2,
        "world_model.imagined_rows": 4,
        "world_model.imagined_steps": 3,
        "world_model.width": 8,
        "world_model.model_batch": 4,
    },
    "marie": {
        "world_model.first_trials": 4,
        "world_model.score_interval": 1,
        "world_model.imagined_rollouts": 2,
        "world_model.imagined_rows": 4,
        "world_model.imagined_steps": 3,
        "world_model.width": 8,
        "world_model.n_layers": 1,
        "world_model.batch": 4,
        "world_model.tokenizer_updates": 2,
    },
    # Thresholds start near the weights, and resets come every iteration, or masks would play no part.
    "kaleidoscope": {"sharing.reset_interval": 16, "sharing.reset_probability": 0.5, "sharing.threshold_bias": 0.0},
}
BY_KIND["kaleidoscope_published"] = BY_KIND["kaleidoscope"]


def tiny(results: Path, env: str = "toy-corners", algo: str = "mg2l_kalei", **settings: Any) -> list[str]:
    """The words after ``train.py``; a setting's dot is written as two underscores."""
    chosen = load([f"--env={env}", f"--algo={algo}"], SCHEMA, CONFIG_DIR).config.kinds
    own = {name: value for kind in chosen.values() for name, value in BY_KIND.get(kind, {}).items()}
    given = {name.replace("__", "."): value for name, value in settings.items()}
    merged = {**ALL, **own, "results_dir": results, **given}
    return [f"--env={env}", f"--algo={algo}", *(f"{name}={value}" for name, value in merged.items())]


def folder_of(words: list[str]) -> RunFolder:
    """Where the run of a command line is."""
    return RunFolder(run_dir(load(words, SCHEMA, CONFIG_DIR).config))


class Remains(NamedTuple):
    """What two runs must share to be the same run."""

    step: str
    tensors: bytes
    state: bytes
    metrics: list[dict[str, Any]]  # without times


def remains(folder: RunFolder) -> Remains:
    """The latest checkpoint, byte by byte, and the metrics."""
    step = (folder.checkpoints / "latest").read_text().strip()
    checkpoint = folder.checkpoints / step
    rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    metrics = [{key: value for key, value in row.items() if not key.startswith("time/")} for row in rows]
    tensors, state = (
        b"".join((checkpoint / f"{part}.{kind}").read_bytes() for part in PARTS) for kind in ("safetensors", "json")
    )
    return Remains(step, tensors, state, metrics)


def files_in(folder: Path) -> Mapping[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def copy_of(run: RunFolder, place: Path) -> RunFolder:
    """The run's folder, copied somewhere else."""
    return RunFolder(shutil.copytree(run.path, place))
