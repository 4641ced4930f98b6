"""Trials lived through again: what off-policy learners look at, with the latents that the encoder now infers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from envs.core import EnvSpec
from mg2l_kalei.buffers.sequences import whole_trials
from mg2l_kalei.buffers.trials import TrialReplay
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.processes import ALONE, Processes
from mg2l_kalei.types import Rollout, Step, TaskLatent


class Trials(NamedTuple):
    """B replayed trials of T steps."""

    steps: Step  # (T, B, ...)
    latent: TaskLatent  # (T + 1, B, ...)   before each step and after the last, each agent's from its own steps alone


@torch.no_grad()
def relived(replay: TrialReplay, trial: Tensor, encoder: TaskEncoder) -> Trials:
    """Trials (B,) of the replay, and what their teams would believe in each step, were they to live through them now.

    Latents have no gradient. The encoder passes once over each step, whatever T is: pooled sums run on. Where a replay
    keeps latents, they are those.
    """
    steps, task = whole_trials(replay, trial)
    told = replay.told(trial)
    if told is not None:
        return Trials(steps, told)
    nothing = steps.reward.new_empty(*steps.reward.shape, 0)  # acted on by then: nobody asks
    return Trials(steps, encoder.latents(Rollout(steps, task, nothing)))


def updates_due(per_episode: float, fresh: Rollout, episode_steps: int, processes: Processes = ALONE) -> int:
    """Of so many for each episode that begins in the fresh rollout, in all processes; at least one.

    Where rows begin in the midst of episodes, of so many for as many steps as an episode has at most.
    """
    if fresh.told is not None:
        return max(1, round(per_episode * fresh.steps.ends.numel() / episode_steps))
    n_episodes = int(processes.sum(fresh.steps.episode_start.sum()))
    return max(1, round(per_episode * n_episodes))


def of_team(seen: Step, spec: EnvSpec) -> Tensor:
    """The team's reward, (T, B): what all are paid alike, or the mean over all agents, of those who left 0."""
    total = torch.where(seen.alive, seen.reward, 0.0).sum(-1)
    return total / (seen.alive.sum(-1).clamp(min=1) if spec.shared_reward else spec.n_agents)
