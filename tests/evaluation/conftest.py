"""Rollouts and results made by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from envs.core import EnvBatch, EnvSpec, Task, TaskFamily
from mg2l_kalei.evaluation.probe import read_probes
from mg2l_kalei.evaluation.results import AdaptationResult
from mg2l_kalei.types import Rollout, Step

LATENT_STEPS = (1, 10, 39)


class Named(TaskFamily):
    """Tasks without an environment."""

    def __init__(self, tasks: Sequence[Task], episode_steps: int = 4) -> None:
        super().__init__("named", None, np.random.default_rng(0))
        self.tasks = tuple(tasks)
        self.spec = EnvSpec(2, 3, 3, 2, is_discrete=False, episode_steps=episode_steps)

    def make(self, n_rows: int, device: torch.device, generator: torch.Generator) -> EnvBatch:
        raise NotImplementedError


@pytest.fixture
def make_family() -> Callable[..., TaskFamily]:
    return Named


@pytest.fixture
def make_rollout() -> Callable[..., Rollout]:
    """A rollout from reward (T, B, N) and where episodes end (T, B); ``local`` (T, B, N, dim) is the latent."""

    def make(reward: Tensor, ended: Tensor, *, task: Tensor | None = None, local: Tensor | None = None) -> Rollout:
        n_steps, n_rows, n_agents = reward.shape
        nothing = torch.zeros(n_steps, n_rows, n_agents, 1)
        start = torch.cat([torch.ones(1, n_rows, dtype=torch.bool), ended[:-1]])
        fields: dict[str, Any] = dict.fromkeys(("obs", "next_obs", "state", "next_state", "action"), nothing)
        alive = torch.ones_like(reward, dtype=torch.bool)
        steps = Step(
            **fields,
            legal=None,
            next_legal=None,
            reward=reward,
            terminated=ended,
            truncated=torch.zeros_like(ended),
            episode_start=start,
            alive=alive,
            next_alive=alive,
        )
        task = torch.zeros(n_rows, dtype=torch.int64) if task is None else task
        return Rollout(steps, task, latent=nothing if local is None else local)

    return make


@pytest.fixture
def make_result() -> Callable[..., AdaptationResult]:
    """A result whose returns have the given mean at each k, with unit noise; latents that tell the task in the end."""

    def make(levels: Sequence[float], *, n_tasks: int = 3, n_trials: int = 32, seed: int = 0) -> AdaptationResult:
        noise = np.random.default_rng(seed)
        latents = noise.normal(size=(len(LATENT_STEPS), n_tasks, n_trials, 2, 4)).astype(np.float32)
        latents[-1, ..., :n_tasks] += 20 * np.eye(n_tasks, min(n_tasks, 4))[:, None, None]
        shape = (n_tasks, n_trials, len(levels))
        returns = (np.array(levels) + noise.normal(size=shape)).astype(np.float32)
        return AdaptationResult(
            family="named",
            split="test",
            seen_only=False,
            tasks=tuple(f"task {i}" for i in range(n_tasks)),
            fingerprint="same tasks",
            seed=seed,
            env_steps=1000,
            episode_steps=20,
            returns=returns,
            sampled_returns=returns - 1,
            step_reward=noise.normal(size=(n_tasks, 40)).astype(np.float32),
            step_reward_error=np.full((n_tasks, 40), 0.1, dtype=np.float32),
            probe=read_probes(latents, LATENT_STEPS),
            latents=latents,
        )

    return make
