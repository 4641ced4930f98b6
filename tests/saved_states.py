"""Checkpoints of states that are known by their step."""

from __future__ import annotations

from pathlib import Path

import torch

from mg2l_kalei.disk.checkpoint import Checkpoints
from mg2l_kalei.types import State


def state_of(step: int) -> State:
    return {"weight": torch.full((3, 2), float(step)), "step": step}


def is_state_of(state: State, step: int) -> bool:
    return torch.equal(state.pop("weight"), torch.full((3, 2), float(step))) and state == {"step": step}


def saved(folder: Path, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep=9)
    for step in steps:
        checkpoints.save(state_of(step), step)
    return checkpoints


def latest_step(checkpoints: Checkpoints) -> int:
    loaded = checkpoints.load_latest()
    assert loaded is not None and is_state_of(loaded.state, loaded.step)
    return loaded.step
