"""Whole trials, drawn from the replay: what learns from sequences, and what encodes replayed trials anew."""

from __future__ import annotations

import torch
from torch import Tensor

from mg2l_kalei.buffers.trials import TrialReplay
from mg2l_kalei.types import Step


def draw_trials(replay: TrialReplay, n: int, generator: torch.Generator) -> Tensor:
    """Numbers of n different trials of those that are held, all alike likely: (n,) int64."""
    assert n <= len(replay), f"{n} trials were asked for, and {len(replay)} are held"
    return torch.randperm(len(replay), generator=generator, device=replay.device)[:n]


def whole_trials(replay: TrialReplay, trial: Tensor) -> tuple[Step, Tensor]:
    """The steps (T, B, ...) of trials (B,), of which the replay keeps all fields, and their tasks (B,)."""
    fields = dict(replay.trials(trial))
    legal, next_legal = (fields.pop(name, None) for name in ("legal", "next_legal"))  # none of continuous actions
    return Step(legal=legal, next_legal=next_legal, **fields), replay.task[trial]
