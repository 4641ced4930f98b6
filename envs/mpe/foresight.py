"""What scripted opponents look ahead to: where each of the five moves, kept up for a few steps, takes them."""

from __future__ import annotations

import torch
from torch import Tensor

from envs.mpe.layout import MOVES
from envs.mpe.world import DAMPING, TIME_STEP, Body, World

STEPS_AHEAD = 3
TIE = 1e-12  # of scores that are nearer than this, the first move is taken


class Foresight:
    """Of bodies that are alike and meet nothing on their way."""

    def __init__(self, body: Body, world: World) -> None:
        self._body = body
        self._moves = torch.tensor(MOVES, device=world.device, dtype=world.dtype)  # (5, 2)

    def ends(self, pos: Tensor, vel: Tensor) -> Tensor:
        """Positions after each move: (B, n, 2), (B, n, 2) -> (B, n, 5, 2)."""
        pos, vel = pos[:, :, None], vel[:, :, None]
        for _ in range(STEPS_AHEAD):
            vel = vel * (1 - DAMPING) + self._moves * (self._body.accel * TIME_STEP)
            speed = torch.linalg.vector_norm(vel, dim=-1, keepdim=True)
            vel = vel * (self._body.max_speed / speed).clamp_max(1)  # at rest: limit / 0 = inf, clamped to 1
            pos = pos + vel * TIME_STEP
        return pos

    def best(self, score: Tensor) -> Tensor:
        """The move of the highest score (B, n, 5): (B, n, 2)."""
        is_best = score >= score.amax(-1, keepdim=True) - TIE
        return self._moves[is_best.int().argmax(-1)]
