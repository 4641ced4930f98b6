"""Transitions over several steps of replayed trials, each of which bootstraps from where it ends."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mg2l_kalei.types import Step, TaskLatent


class Returns(NamedTuple):
    """What each step of a trial was worth until up to n steps later."""

    value: Tensor  # (T, B, V)   discounted sum of rewards
    discount: Tensor  # (T, B, V)   of the value of what is seen then; 0: nothing follows
    last: Tensor  # (T, B) int64   the last step that counts: what is seen then is its true successor


class Transitions(NamedTuple):
    """S transitions over several steps, their latents inferred up to where they begin and end."""

    obs: Tensor  # (S, N, obs_dim)
    state: Tensor  # (S, state_dim)
    latent: TaskLatent  # (S, ...)
    action: Tensor  # (S, N, action_dim) float, or (S, N) int64   in the first step
    legal: Tensor | None  # (S, N, n_actions)
    alive: Tensor  # (S, N)
    value: Tensor  # (S, V)   as in ``Returns``, and
    discount: Tensor  # (S, V)
    next_obs: Tensor  # (S, N, obs_dim)   after the last step, and so on
    next_state: Tensor  # (S, state_dim)
    next_latent: TaskLatent  # (S, ...)
    next_legal: Tensor | None  # (S, N, n_actions)
    next_alive: Tensor  # (S, N)


def n_step_returns(reward: Tensor, steps: Step, next_alive: Tensor, *, n: int, gamma: float) -> Returns:
    """Of reward (T, B, V) along trials ``steps`` (T, B, ...), next_alive (T, B, V): who goes on after each step.

    A sum ends after ``n`` steps, with the episode, or with the trial, whichever comes first. Time limits, and the
    trial's end, bootstrap from the true successor; nothing follows a termination, nor somebody's leaving.
    """
    T = len(reward)
    number = torch.arange(T, device=reward.device).unsqueeze(-1)  # (T, 1)
    end = torch.where(steps.ends, number, T - 1).flip(0).cummin(0).values.flip(0)  # (T, B)   of the episode
    last = torch.minimum(end, number + n - 1)
    value = torch.zeros_like(reward)
    for j in range(min(n, T)):
        counts = (number[: T - j] + j <= last[: T - j]).unsqueeze(-1)
        value[: T - j] += torch.where(counts, gamma**j * reward[j:], 0.0)
    row = torch.arange(reward.shape[1], device=reward.device)
    goes_on = next_alive[last, row] & ~steps.terminated[last, row].unsqueeze(-1)
    discount = torch.pow(torch.as_tensor(gamma, dtype=reward.dtype, device=reward.device), last - number + 1)
    return Returns(value, torch.where(goes_on, discount.unsqueeze(-1), 0.0), last)


def transitions(steps: Step, latent: TaskLatent, returns: Returns, index: Tensor) -> Transitions:
    """Those that begin at ``index`` (S,) of the T B steps of trials, latent (T + 1, B, ...)."""
    n_rows = steps.ends.shape[1]
    t, b = index // n_rows, index % n_rows
    last = returns.last[t, b]
    return Transitions(
        obs=steps.obs[t, b],
        state=steps.state[t, b],
        latent=TaskLatent(latent.global_[t, b], latent.local[t, b]),
        action=steps.action[t, b],
        legal=None if steps.legal is None else steps.legal[t, b],
        alive=steps.alive[t, b],
        value=returns.value[t, b],
        discount=returns.discount[t, b],
        next_obs=steps.next_obs[last, b],
        next_state=steps.next_state[last, b],
        next_latent=TaskLatent(latent.global_[last + 1, b], latent.local[last + 1, b]),
        next_legal=None if steps.next_legal is None else steps.next_legal[last, b],
        next_alive=steps.next_alive[last, b],
    )
