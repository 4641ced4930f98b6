"""Checkpoints of states that are known by their step."""

from __future__ import annotations

from pathlib import Path

import torch

from mg2l_kalei.disk.checkpoint import Checkpoints
from mg2l_kalei.disk.shards import Shard
from mg2l_kalei.types import State

WEIGHT_FILES = ("weights.safetensors", "weights.json")
FILES = (*WEIGHT_FILES, "training.safetensors", "training.json")


def both(training: State) -> dict[str, State]:
    """A checkpoint's parts, of which one part is of interest."""
    return {"weights": {}, "training": training}


def state_of(step: int) -> dict[str, State]:
    weight = torch.full((3, 2), float(step))
    return {"weights": {"weight": weight, "step": step}, "training": {"moment": -weight}}


def is_state_of(state: dict[str, State], step: int) -> bool:
    expected = state_of(step)
    return (
        torch.equal(state["weights"]["weight"], expected["weights"]["weight"])
        and state["weights"]["step"] == step
        and torch.equal(state["training"]["moment"], expected["training"]["moment"])
    )


def trials(first: int, n_trials: int) -> Shard:
    """Trials that are known by their numbers."""
    number = torch.arange(first, first + n_trials)
    return Shard(first, {"obs": number[:, None].expand(-1, 4).float(), "task": number})


def saved(folder: Path, *steps: int, n_trials: int = 0) -> Checkpoints:
    """Checkpoints of these steps, in each of which ``n_trials`` are new."""
    checkpoints = Checkpoints(folder, keep=9)
    for step in steps:
        save(checkpoints, step, n_trials)
    return checkpoints


def save(checkpoints: Checkpoints, step: int, n_trials: int = 0, *, oldest_trial: int = 0, best: bool = False) -> None:
    shard = trials(checkpoints.n_trials_saved, n_trials)
    checkpoints.save(state_of(step), step, shard=shard, oldest_trial=oldest_trial, best=best)


def latest_step(checkpoints: Checkpoints) -> int:
    loaded = checkpoints.load_latest()
    assert loaded is not None and is_state_of(loaded.state, loaded.step)
    return loaded.step


def numbers(checkpoints: Checkpoints) -> list[int]:
    """Of the trials that come back with the latest checkpoint, each checked."""
    loaded = checkpoints.load_latest()
    assert loaded is not None
    for shard in loaded.shards:
        expected = trials(shard.first, shard.n_trials)
        assert all(torch.equal(tensor, expected.tensors[name]) for name, tensor in shard.tensors.items())
    return [int(number) for shard in loaded.shards for number in shard.tensors["task"]]
