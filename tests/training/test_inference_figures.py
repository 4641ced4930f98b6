"""Do figures of inference tell the task, or what an encoder remembers of the trials that it was trained on?"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from envs import ENVS, make_family
from envs.core import Task, TaskFamily
from tests.training.trainers import make_trainer, tiny

N_ROWS, N_TASKS = 16, 4
ACCURACIES = ("encoder/contrastive_accuracy_global", "encoder/contrastive_accuracy_local")
LEARNS: dict[str, Any] = {
    "hidden": (32, 32),
    "latent_dim": 8,
    "batch": 16,
    "length": 6,
    "episode_steps": 6,
    "n_epochs": 1,
    "n_minibatches": 1,
    "encoder_epochs": 1,
    "nested_contexts": False,
    "encoder_lr": 5e-3,
    "n_updates": 6,
    "n_early_updates": 6,
    "n_early_iterations": 100,
    "explore_interval": 1,
    "explore_rows": N_ROWS,
}
CONTEXTS = [*itertools.product(("online", "replay"), ("trial", "task"), (24, 200))]


def corners(goals: list[tuple[float, float]]) -> TaskFamily:
    """Tasks whose agents are paid to be at these places; they start anywhere, so that trials can be remembered."""
    settings = dataclasses.replace(ENVS["toy-corners"][1], start_spread=1.0, episode_steps=6)
    family = make_family("toy-corners", settings, np.random.default_rng(0))
    family.tasks = tuple(Task(f"goal{i}", {"goal": list(goal)}, goal) for i, goal in enumerate(goals))
    return family


def readings(monkeypatch: pytest.MonkeyPatch, family: TaskFamily, n_iters: int, **settings: Any) -> torch.Tensor:
    """Of both accuracies, in each iteration that has some: (n, 2)."""
    monkeypatch.setattr("mg2l_kalei.training.system.family_of", lambda config: family)
    config = tiny("mg2l_full", "toy-corners", **LEARNS | settings)
    trainer = make_trainer(dataclasses.replace(config, n_rows=N_ROWS, n_iters=n_iters))
    found = [trainer.iterate() for _ in range(n_iters)]
    assert ACCURACIES[0] not in found[0]  # nothing is stored yet
    return torch.tensor([[float(one[name]) for name in ACCURACIES] for one in found if ACCURACIES[0] in one])


@pytest.mark.parametrize(("source", "scope", "capacity"), CONTEXTS)
def test_tasks_that_cannot_be_told_apart_read_chance(
    monkeypatch: pytest.MonkeyPatch, source: str, scope: str, capacity: int
) -> None:
    alike = corners([(1.0, 1.0)] * N_TASKS)
    read = readings(monkeypatch, alike, 11, source=source, scope=scope, capacity=capacity)
    assert len(read) == 10
    assert read.mean(0).tolist() == pytest.approx([1 / N_TASKS] * 2, abs=0.1)  # 160 trials, 0.035 each way


@pytest.mark.parametrize("source", ["online", "replay"])
def test_tasks_that_can_be_told_apart_read_more(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    apart = corners([(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)])
    read = readings(monkeypatch, apart, 16, source=source, capacity=200, n_early_updates=24)
    assert read[-5:].mean() > 0.5 > read[:2].mean()
