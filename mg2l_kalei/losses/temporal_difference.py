"""Targets of learned action values. Axes (T, B)."""

from __future__ import annotations

import torch
from torch import Tensor


def lambda_targets(
    reward: Tensor, next_value: Tensor, terminated: Tensor, cut: Tensor, *, gamma: float, td_lambda: float
) -> Tensor:
    """TD(lambda) (Sutton & Barto 2018, eq. 12.2, backwards): reward, next_value (T, B); terminated, cut (T, B) bool.

    G_t = r_t + gamma ((1 - lambda) V(s_t+1) + lambda G_t+1), without regard to which policy acted. Nothing follows a
    termination. Where the trial is ``cut``, V of the true successor is all that is known of what follows.
    """
    following = next_value
    if td_lambda > 0:
        following, running = torch.empty_like(next_value), next_value[-1]
        for t in reversed(range(len(reward))):
            beyond = torch.lerp(next_value[t], running, td_lambda)
            following[t] = torch.where(cut[t], next_value[t], beyond)
            running = reward[t] + gamma * following[t].masked_fill(terminated[t], 0.0)
    return reward + gamma * following.masked_fill(terminated, 0.0)
