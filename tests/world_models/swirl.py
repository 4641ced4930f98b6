"""A tiny world whose dynamics are known and not linear in what is seen, and trials of it in a replay.

Two agents on a circle see their sine and cosine. Each turns by what it does, by its task, and towards the other.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from envs.core import EnvSpec
from mg2l_kalei.buffers.trials import ReplayConfig, TrialReplay
from mg2l_kalei.buffers.windows import OBSERVED, jointly_observed
from mg2l_kalei.encoders.references import OracleConfig, OracleEncoder
from mg2l_kalei.types import Step
from mg2l_kalei.world_models.base import Surroundings
from mg2l_kalei.world_models.continuous import ContinuousConfig, ContinuousModel
from tests.small_systems import generator

SPEC = EnvSpec(n_agents=2, obs_dim=2, state_dim=4, action_dim=1, is_discrete=False, episode_steps=20, ends_on_time=True)
TURNS = torch.tensor([[-0.4], [0.4]])  # [rad per step], of the two tasks, and all that hides
CPU = torch.device("cpu")


def seen(angle: Tensor) -> Tensor:
    """(..., N) -> (..., N, 2)."""
    return torch.stack([angle.sin(), angle.cos()], dim=-1)


def next_obs(obs: Tensor, action: Tensor, task: Tensor) -> Tensor:
    """The known transition: obs (B, N, 2), action (B, N, 1), task (B,)."""
    angle = torch.atan2(obs[..., 0], obs[..., 1])
    pull = 0.5 * torch.sin(angle.flip(-1) - angle)
    return seen(angle + action[..., 0] + pull + TURNS[task])


def trials(n_rows: int, n_steps: int, *, seed: int = 0) -> tuple[Step, Tensor]:
    """Episodes of ``SPEC.episode_steps`` played at random: steps (T, B, ...), and their tasks; cosines are paid."""
    stream, task, steps = generator(seed), torch.arange(n_rows) % 2, []
    alive, never = torch.ones(n_rows, 2, dtype=torch.bool), torch.zeros(n_rows, dtype=torch.bool)
    for t in range(n_steps):
        is_first, is_last = t % SPEC.episode_steps == 0, (t + 1) % SPEC.episode_steps == 0
        if is_first:
            obs = seen(6.3 * torch.rand(n_rows, 2, generator=stream))
        action = 2 * torch.rand(n_rows, 2, 1, generator=stream) - 1
        after = next_obs(obs, action, task)
        joint = (obs.flatten(-2), after.flatten(-2))
        ends = (never, torch.full_like(never, is_last), torch.full_like(never, is_first))
        steps.append(Step(obs, after, *joint, action, None, None, after[..., 1], *ends, alive, alive))
        obs = after
    fields = zip(*steps, strict=True)
    return Step._make(None if x[0] is None else torch.stack(x) for x in fields), task


def replayed(n_rows: int = 64, n_steps: int = 20, *, seed: int = 0) -> TrialReplay:
    """A replay of such trials."""
    replay = TrialReplay(ReplayConfig(capacity=4 * n_rows), jointly_observed(SPEC), n_steps, OBSERVED, CPU)
    replay.add(*trials(n_rows, n_steps, seed=seed))
    return replay


def oracle() -> OracleEncoder:
    return OracleEncoder(OracleConfig(), SPEC, TURNS, 2, generator())


def small_model(spec: EnvSpec = SPEC, *, seed: int = 0, **settings: Any) -> ContinuousModel:
    """For the two tasks, told as features of one number."""
    small = {"width": 32, "model_batch": 64, "imagined_steps": 15, "burn_in": 0}
    config = dataclasses.replace(ContinuousConfig(), **small | settings)
    return ContinuousModel(config, Surroundings(jointly_observed(spec), 1, generator(seed)))
