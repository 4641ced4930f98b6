"""Families of PettingZoo environments, and batches of them, as the tests make them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.core import StepResult
from envs.pettingzoo.batch import PettingZooBatch
from envs.pettingzoo.family import PettingZooConfig, PettingZooFamily

ENVS = "tests.envs.pettingzoo_envs"


def family(factory: str, **settings: Any) -> PettingZooFamily:
    """Of a factory of ``pettingzoo_envs``, or of another module: ``module:function``."""
    path = factory if ":" in factory else f"{ENVS}:{factory}"
    return PettingZooFamily("pettingzoo", PettingZooConfig(factory=path, **settings), np.random.default_rng(0))


def batch(factory: str, n_rows: int = 1, seed: int = 0, **settings: Any) -> PettingZooBatch:
    return family(factory, **settings).make(n_rows, torch.device("cpu"), torch.Generator().manual_seed(seed))


def acted(rows: PettingZooBatch, *actions: Any) -> list[StepResult]:
    """A start of all rows on task 0, and a step with each of the actions (N,), which all rows make alike."""
    n_rows = len(rows.reset(torch.zeros(rows.n_rows, dtype=torch.int64)).obs)
    dtype = torch.int64 if rows.spec.is_discrete else torch.float32
    return [rows.step(torch.tensor(action, dtype=dtype).expand(n_rows, *np.shape(action))) for action in actions]


def random_actions(rows: PettingZooBatch, n_steps: int) -> Tensor:
    """(T, B, N) or (T, B, N, action_dim), legal where no action is masked."""
    spec, generator = rows.spec, torch.Generator().manual_seed(1)
    if spec.is_discrete:
        return torch.randint(min(spec.action_sizes), (n_steps, rows.n_rows, spec.n_agents), generator=generator)
    return 2 * torch.rand(n_steps, rows.n_rows, spec.n_agents, spec.action_dim, generator=generator) - 1
