"""Advantages and losses of actor-critic methods. Axes (T, B, N)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mg2l_kalei.losses.masking import masked_mean
from mg2l_kalei.types import Metrics, Step


class Values(NamedTuple):
    """A critic's estimates along a trial, in units of reward."""

    value: Tensor  # (T, B, N)   of the state acted in
    next_value: Tensor  # (T, B, N)   of its true successor


def paid_together(values: Values, seen: Step) -> tuple[Values, Step]:
    """Of agents that are all paid alike, who leaves has a part in what the team is paid and worth after that.

    Those who are not there, (T, B, N), are given the mean of those who are, and counted as there while somebody is.
    """
    value, reward = (_means_of_others(x, seen.alive) for x in (values.value, seen.reward))
    next_value = _means_of_others(values.next_value, seen.next_alive)
    alive, next_alive = (x.any(-1, keepdim=True).expand_as(x) for x in (seen.alive, seen.next_alive))
    return Values(value, next_value), seen._replace(reward=reward, alive=alive, next_alive=next_alive)


def _means_of_others(x: Tensor, alive: Tensor) -> Tensor:
    mean = torch.where(alive, x, 0.0).sum(-1, keepdim=True) / alive.sum(-1, keepdim=True).clamp(min=1)
    return torch.where(alive, x, mean)


def within_the_trial(values: Values, seen: Step, gamma: float) -> tuple[Values, tuple[Tensor, Tensor, Tensor]]:
    """Values and ends (T, B, ...) of a trial taken as one episode: what follows a step within it is the next step.

    Of an agent that is not there, the value is what that of its next living step is worth by then. The trial's end is a
    time limit, unless its last episode terminates there.
    """
    value, next_value = values.value.clone(), values.next_value.clone()
    is_over = seen.terminated[-1].unsqueeze(-1) | ~seen.next_alive[-1]
    next_value[-1] = next_value[-1].masked_fill(is_over, 0.0)  # which is handed back to who left before
    for t in reversed(range(len(value))):
        if t + 1 < len(value):
            next_value[t] = value[t + 1]
        value[t] = torch.where(seen.alive[t], value[t], gamma * next_value[t])
    terminated, truncated = seen.terminated.clone(), torch.zeros_like(seen.truncated)
    next_alive = torch.ones_like(seen.next_alive)
    terminated[:-1], truncated[-1], next_alive[-1] = False, ~terminated[-1], seen.next_alive[-1]
    return Values(value, next_value), (terminated, truncated, next_alive)


def generalized_advantages(
    reward: Tensor,
    values: Values,
    terminated: Tensor,
    truncated: Tensor,
    next_alive: Tensor | None = None,
    *,
    gamma: float,
    gae_lambda: float,
    n_step: int = 0,
) -> Tensor:
    """GAE (Schulman et al. 2016, eq. 16): reward (T, B, N), terminated and truncated (T, B) -> (T, B, N).

    Nothing follows a termination; a truncated episode bootstraps from its true successor. Neither lets the sum run on
    into the episode after it. For an agent that has left before its team (``next_alive`` (T, B, N) is False; None: all
    stay) nothing follows. With ``n_step`` the sum bootstraps after each so many steps, too: with ``gae_lambda`` 1 these
    are the n-step returns of A2C (Mnih et al. 2016, arXiv 1602.01783), whose rollouts are that short.
    """
    gone = terminated.unsqueeze(-1) if next_alive is None else terminated.unsqueeze(-1) | ~next_alive
    ended = truncated.unsqueeze(-1) | gone
    bootstrap = gamma * values.next_value.masked_fill(gone, 0.0)
    delta = reward + bootstrap - values.value
    decay = gamma * gae_lambda * (~ended)
    if n_step:
        decay[n_step - 1 :: n_step] = 0.0
    advantage = torch.zeros_like(delta)
    running = torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        running = delta[t] + decay[t] * running
        advantage[t] = running
    return advantage


def standardised(x: Tensor, weight: Tensor, *, per_agent: bool = False) -> Tensor:
    """x (T, B, N) less its mean, over its deviation, both over entries where ``weight`` (same shape, bool) is True.

    ``per_agent``: each agent's by its own. A single entry has no deviation: it becomes 0.
    """
    if not per_agent:
        counted = x[weight]
        std = counted.std() if counted.numel() > 1 else torch.ones_like(x.sum())
        return (x - masked_mean(x, weight)) / std.clamp(min=1e-6)
    n = weight.sum((0, 1))
    centred = torch.where(weight, x - torch.where(weight, x, 0.0).sum((0, 1)) / n.clamp(min=1), 0.0)
    std = (centred.square().sum((0, 1)) / (n - 1).clamp(min=1)).sqrt()
    return centred / std.clamp(min=1e-6)


def clipped_surrogate(
    log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip_eps: float, weight: Tensor | None = None
) -> tuple[Tensor, Metrics]:
    """Negative clipped surrogate (Schulman et al. 2017, eq. 7): arrays of one shape -> scalar, ``train/`` metrics."""
    log_ratio = log_prob - old_log_prob
    if weight is not None:
        log_ratio = torch.where(weight, log_ratio, 0.0)
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - clip_eps, 1 + clip_eps)
    loss = -masked_mean(torch.minimum(ratio * advantage, clipped * advantage), weight)
    with torch.no_grad():
        excess = ratio - 1
        size = excess.abs()
        metrics: Metrics = {
            "train/approx_kl": masked_mean(excess - log_ratio, weight),
            "train/clip_fraction": masked_mean((size > clip_eps).float(), weight),
            "train/ratio_error": size.max(),
        }
    return loss, metrics


def clipped_value_loss(
    value: Tensor, old_value: Tensor, returns: Tensor, *, clip_eps: float, delta: float, weight: Tensor | None = None
) -> Tensor:
    """Huber loss, the larger of the estimate's own and of the one clipped around ``old_value``: one shape -> scalar.

    ``clip_eps`` of infinity switches the clipping off. All in the critic's normalised units.
    """
    if weight is not None:
        value, returns = (torch.where(weight, x, 0.0) for x in (value, returns))
    loss = F.huber_loss(value, returns, delta=delta, reduction="none")
    if clip_eps != float("inf"):
        clipped = old_value + (value - old_value).clamp(-clip_eps, clip_eps)
        loss = torch.maximum(loss, F.huber_loss(clipped, returns, delta=delta, reduction="none"))
    return masked_mean(loss, weight)


def explained_variance(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - Var(target - prediction) / Var(target), of arrays of one shape -> scalar; 0 says nothing was explained.

    A single number has no variance to explain.
    """
    if target.numel() < 2:
        return torch.zeros((), device=target.device)
    variance = target.var()
    return torch.where(variance > 0, 1 - (target - prediction).var() / variance, torch.zeros_like(variance))
