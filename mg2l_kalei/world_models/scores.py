"""How far off a world model is, k steps ahead along actions that were taken, on trials that it was not trained on.

Beside it: nothing changes (copy-last), and a ridge regression on the same steps of all agents, fitted to the trials
that the model was trained on. Errors are root mean squares over agents and entries, in deviations of observations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from envs.core import EnvSpec
from mg2l_kalei.buffers.trials import TrialReplay
from mg2l_kalei.buffers.windows import Window, draw_moments, window
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.types import Metrics, Step
from mg2l_kalei.world_models.base import Starts, WorldModel, starts_at, task_latents

STEPS_AHEAD = (1, 5, 15)
N_STARTS, N_FITTED = 512, 4096  # moments that errors are measured from, and that the regression is fitted to,
N_TRIALS = 256  # of so many trials at most, whose latents are inferred
N_ROWS = 256  # imagined at once, whose memory is a model's to bound
RIDGE = 1e-3  # penalty, per fitted moment, of weights of standardised inputs


class Ahead(NamedTuple):
    """What is predicted H steps ahead of B moments."""

    obs: Tensor  # (H, B, N, obs_dim)
    reward: Tensor  # (H, B, N)
    spread: Tensor | None = None  # (H, B)


@torch.no_grad()
def open_loop_scores(
    model: WorldModel,
    replay: TrialReplay,
    trials: tuple[Tensor, Tensor],
    encoder: TaskEncoder,
    generator: torch.Generator,
) -> Metrics:
    """Metrics under ``world_model/``; ``trials``: slots that the model was trained on, and others."""
    past, fresh = trials
    burn_in, horizon = model.config.burn_in, min(max(STEPS_AHEAD), replay.n_steps, model.spec.episode_steps)
    moments = draw_moments(fresh, replay.n_steps, N_STARTS, generator)
    true = window(replay, moments, before=burn_in, after=horizon)
    latents = task_latents(replay, moments.trial, encoder)
    starts = starts_at(replay, moments, burn_in)
    by_model = imagined(model, starts, latents, true.steps.action[burn_in:], generator)
    some = past[torch.randperm(len(past), generator=generator, device=past.device)[:N_TRIALS]]
    fitted = draw_moments(some, replay.n_steps, N_FITTED, generator)
    told = task_latents(replay, fitted.trial, encoder)
    linear = LinearModel(model.spec, window(replay, fitted, before=burn_in, after=1), told)
    ahead = Step._make(None if x is None else x[burn_in:] for x in true.steps)
    counts = true.is_known[burn_in:, :, None] & ahead.alive
    metrics: Metrics = {}
    others = {"copy_": Ahead(ahead.obs[:1].expand_as(ahead.obs), ahead.reward)}
    others["linear_"] = linear.ahead(true, latents, burn_in)
    for k in [k for k in STEPS_AHEAD if k <= horizon]:
        at, stays = k - 1, counts[k - 1] & ahead.next_alive[k - 1]
        if not stays.any():
            continue
        for name, predicted in {"": by_model, **others}.items():
            off = linear.deviation(predicted.obs[at], ahead.next_obs[at])  # (B, N)
            metrics[f"world_model/{name}error_{k}"] = off[stays].square().mean().sqrt()
            if name != "copy_":
                r2 = explained(predicted.reward[at][counts[at]], ahead.reward[at][counts[at]])
                metrics[f"world_model/{name}reward_r2_{k}"] = r2
        if by_model.spread is not None:
            off = linear.deviation(by_model.obs[at], ahead.next_obs[at]).square().mean(-1).sqrt()
            metrics |= calibration(by_model.spread[at], off, stays.all(-1), k)
    return metrics


def imagined(model: WorldModel, starts: Starts, latents: Tensor, actions: Tensor, generator: torch.Generator) -> Ahead:
    """What the model makes of actions (H, B, N, ...) from these starts on."""
    parts = []
    for rows in torch.arange(len(starts.task), device=starts.task.device).split(N_ROWS):
        env = model.imagine(starts.of(rows), latents[rows], generator)
        env.reset(starts.task[rows])
        steps = []
        for action in actions[:, rows]:
            result = env.step(action)
            steps.append(Ahead(result.obs, result.reward, env.spread))
        parts.append(_joined(steps, torch.stack))
    return _joined(parts, partial(torch.cat, dim=1))


def _joined(parts: Sequence[Ahead], join: Callable[[tuple[Tensor, ...]], Tensor]) -> Ahead:
    return Ahead._make(None if x[0] is None else join(x) for x in zip(*parts, strict=True))


def explained(predicted: Tensor, true: Tensor) -> Tensor:
    """R squared of predictions (n,): 1 - squared errors / squared deviations from the mean."""
    return 1 - (predicted - true).square().sum() / (true - true.mean()).square().sum().clamp(min=1e-12)


def calibration(spread: Tensor, off: Tensor, counts: Tensor, k: int) -> Metrics:
    """How well the spread (B,) that a model believes in tells its error (B,), in rows that count."""
    if not counts.any():
        return {}
    spread, off = spread[counts], off[counts]
    both = torch.stack([spread, off])
    return {
        f"world_model/spread_{k}": spread.square().mean().sqrt(),
        f"world_model/spread_correlation_{k}": torch.corrcoef(both)[0, 1].nan_to_num(),
    }


class LinearModel:
    """Ridge regression from what a world model sees, of all agents together, to their changes and rewards."""

    def __init__(self, spec: EnvSpec, fitted: Window, latent: Tensor) -> None:
        """``fitted``: windows (W, B, ...) of which the last step is the one to predict."""
        self.n_actions = spec.action_dim if spec.is_discrete else 0
        now = Step._make(None if x is None else x[-1] for x in fitted.steps)
        self.scale = now.obs.flatten(0, -2).std(0)  # (obs_dim,)   0: never another
        x = self._inputs(fitted.steps.obs, fitted.steps.action, fitted.is_known, latent)
        y = torch.cat([(now.next_obs - now.obs).flatten(1), now.reward], dim=-1).double()
        self.mean, self.std = x.mean(0), x.std(0).clamp(min=1e-6)
        x, self.shift = (x - self.mean) / self.std, y.mean(0)
        n, is_wide = len(x), x.shape[-1] > len(x)  # then the system of moments is the smaller one
        product = x @ x.T if is_wide else x.T @ x
        product.diagonal().add_(RIDGE * n)
        y = y - self.shift
        self.weight = x.T @ torch.linalg.solve(product, y) if is_wide else torch.linalg.solve(product, x.T @ y)

    def ahead(self, true: Window, latent: Tensor, burn_in: int) -> Ahead:
        """Along the actions of windows (burn_in + H, B, ...), from its own predictions."""
        obs, steps, predicted = true.steps.obs[: burn_in + 1], true.steps, []
        for first in range(len(true.is_known) - burn_in):
            stretch = slice(first, first + burn_in + 1)
            x = self._inputs(obs, steps.action[stretch], true.is_known[stretch], latent)
            y = ((x - self.mean) / self.std @ self.weight + self.shift).to(obs.dtype)
            change, reward = y.split([obs[-1].flatten(1).shape[-1], steps.reward.shape[-1]], dim=-1)
            obs = torch.cat([obs[1:], (obs[-1] + change.view_as(obs[-1])).unsqueeze(0)])
            predicted.append((obs[-1], reward))
        return Ahead(*(torch.stack(column) for column in zip(*predicted, strict=True)))

    def deviation(self, obs: Tensor, true: Tensor) -> Tensor:
        """Root mean square over entries that vary, in their deviations: (..., obs_dim) -> (...); 0 if none does."""
        varies = self.scale > 1e-6
        squares = ((obs - true)[..., varies] / self.scale[varies]).square()
        return (squares.sum(-1) / varies.sum().clamp(min=1)).sqrt()

    def _inputs(self, obs: Tensor, action: Tensor, is_known: Tensor, latent: Tensor) -> Tensor:
        """Windows (W, B, ...) -> (B, in), in double precision."""
        action = F.one_hot(action, self.n_actions).to(obs.dtype) if self.n_actions else action.clamp(-1, 1)
        steps = torch.cat([obs.flatten(2), action.flatten(2)], dim=-1)
        steps = torch.where(is_known.unsqueeze(-1), steps, 0.0).transpose(0, 1).flatten(1)
        return torch.cat([steps, latent], dim=-1).double()
