"""MuJoCo families for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs import ENVS, make_family
from envs.mujoco.batch import MujocoBatch
from envs.mujoco.family import MujocoFamily


def family(name: str, seed: int = 0, **settings: Any) -> MujocoFamily:
    made = make_family(name, replace(ENVS[name][1], **settings), np.random.default_rng(seed))
    assert isinstance(made, MujocoFamily)
    return made


def batch(made: MujocoFamily, n_rows: int, seed: int = 0) -> MujocoBatch:
    return made.make(n_rows, torch.device("cpu"), torch.Generator().manual_seed(seed), torch.float64)


def random_actions(rows: MujocoBatch, n_rows: int, n_steps: int) -> Tensor:
    """(T, B, N, action_dim)"""
    shape = (n_steps, n_rows, rows.spec.n_agents, rows.spec.action_dim)
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1
