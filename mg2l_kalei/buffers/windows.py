"""Stretches of steps around moments of replayed trials: what world models learn from, and where they begin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from envs.core import EnvSpec
from mg2l_kalei.buffers.contexts import draw_below
from mg2l_kalei.buffers.trials import TrialReplay
from mg2l_kalei.types import Step

OBSERVED = tuple(name for name in Step._fields if name not in ("state", "next_state"))  # fields that are enough here


class Moments(NamedTuple):
    """Steps of replayed trials, by where they stand."""

    trial: Tensor  # (B,) int64   slots of the replay
    step: Tensor  # (B,) int64   0 ... T - 1


class Window(NamedTuple):
    """The steps around B moments."""

    steps: Step  # (L, B, ...)   the state is that of ``jointly_observed``
    is_known: Tensor  # (L, B) bool   whether there is such a step, and as its user wants it; others mean nothing


def jointly_observed(spec: EnvSpec) -> EnvSpec:
    """The same where the state is what all agents observe together."""
    return spec._replace(state_dim=spec.n_agents * spec.obs_dim, state_images=None)


def joint_state(obs: Tensor, alive: Tensor) -> Tensor:
    """All agents' observations (..., N, obs_dim), one after the other, zeros of those who are not alive (..., N)."""
    return torch.where(alive.unsqueeze(-1), obs, 0.0).flatten(-2)


def with_joint_state(steps: Step) -> Step:
    """The same steps, whose states are all agents' observations."""
    state, next_state = joint_state(steps.obs, steps.alive), joint_state(steps.next_obs, steps.next_alive)
    return steps._replace(state=state, next_state=next_state)


def draw_moments(trials: Tensor, n_steps: int, n: int, generator: torch.Generator) -> Moments:
    """n steps of ``trials`` (P,), slots of a replay of ``n_steps``, all alike likely."""
    place, step = (draw_below(torch.full((n,), k, device=trials.device), generator) for k in (len(trials), n_steps))
    return Moments(trials[place], step)


def window(replay: TrialReplay, moments: Moments, *, before: int, after: int) -> Window:
    """The ``before`` steps before each moment, and ``after`` >= 1 from it on; known are those of the same episode."""
    offset = torch.arange(-before, after, device=replay.device).unsqueeze(-1)
    index = moments.step + offset  # (L, B)
    is_within = (index >= 0) & (index < replay.n_steps)
    steps = _joint(replay.steps(moments.trial, index.clamp(0, replay.n_steps - 1)))
    begun = steps.episode_start.long()
    earlier = begun[1 : before + 1].flip(0).cumsum(0).flip(0) == 0  # no episode has begun since
    later = begun[before + 1 :].cumsum(0) == 0
    return Window(steps, is_within & torch.cat([earlier, torch.ones_like(is_within[:1]), later]))


def histories(replay: TrialReplay, moments: Moments, *, at_most: int | None = None) -> Window:
    """All that was lived in the trials before the moments, in whichever episode, the last step last: (L, B, ...).

    L is the longest's length, or ``at_most`` of it; nobody was alive in what came before a trial.
    """
    longest = int(moments.step.max()) if at_most is None else at_most
    index = moments.step + torch.arange(-longest, 0, device=replay.device).unsqueeze(-1)  # (L, B)
    steps, is_known = _joint(replay.steps(moments.trial, index.clamp(min=0))), index >= 0
    return Window(steps._replace(alive=steps.alive & is_known.unsqueeze(-1)), is_known)


def observed_trials(replay: TrialReplay, trial: Tensor) -> Step:
    """Whole trials (B,): steps (T, B, ...)."""
    return _joint(replay.trials(trial))


def _joint(fields: Mapping[str, Tensor]) -> Step:
    """A record of a replay's fields, of which states may be missing; there are no legal actions of continuous ones."""
    return with_joint_state(Step._make(fields.get(name) for name in Step._fields))
