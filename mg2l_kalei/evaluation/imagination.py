"""What a world model imagines of a real trial, along the actions that were taken in it, and a picture of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from mg2l_kalei.buffers.trials import ReplayConfig, TrialReplay
from mg2l_kalei.buffers.windows import OBSERVED, Moments
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.evaluation.plot_style import new_figure, open_axes, task_colours
from mg2l_kalei.evaluation.statistics import Array
from mg2l_kalei.types import Rollout
from mg2l_kalei.world_models.base import WorldModel, starts_at, task_latents
from mg2l_kalei.world_models.scores import imagined

if TYPE_CHECKING:  # imported where they are used: they take a second
    from matplotlib.figure import Figure

ENTRIES_SHOWN = 4  # of an agent's observation, those that vary most
AGENTS_SHOWN = 3
WIDTH_OF_TITLE = 6.0  # [inches]   room for its longer line


class Trajectories(NamedTuple):
    """One row's H steps, as they were and as they were imagined from the first one's observation on."""

    obs: Array  # (H, N, obs_dim)
    imagined_obs: Array  # (H, N, obs_dim)
    reward: Array  # (H, N)
    imagined_reward: Array  # (H, N)


@torch.no_grad()
def imagined_beside(
    model: WorldModel, encoder: TaskEncoder, rollout: Rollout, generator: torch.Generator
) -> Trajectories:
    """Of a rollout of one episode, the row whose mean error is the median: a typical one."""
    steps, task, n_rows = rollout.steps, rollout.task, len(rollout.task)
    replay = TrialReplay(ReplayConfig(capacity=n_rows + 1), model.spec, len(steps.reward), OBSERVED, task.device)
    replay.add(steps, task)
    first = Moments(torch.arange(n_rows, device=task.device), torch.zeros_like(task))
    told = task_latents(replay, first.trial, encoder)
    ahead = imagined(model, starts_at(replay, first, model.config.burn_in), told, steps.action, generator)
    is_first = steps.ends.cumsum(0) - steps.ends.long() == 0  # (T, B)   steps of the row's first episode
    counts = is_first.unsqueeze(-1) & steps.next_alive
    off = torch.where(counts, (ahead.obs - steps.next_obs).square().mean(-1), 0.0)  # (T, B, N)
    error = off.sum((0, -1)) / counts.sum((0, -1)).clamp(min=1)  # (B,)
    row = int(error.argsort()[n_rows // 2])
    ends = steps.ends[:, row]
    horizon = int(ends.int().argmax()) + 1 if ends.any() else len(ends)
    shown = (steps.next_obs, ahead.obs, steps.reward, ahead.reward)
    return Trajectories(*(x[:horizon, row].float().cpu().numpy() for x in shown))


def imagination_title(family: str, split: str, n_episodes: int) -> str:
    """In two lines, of which both fit into the figure of a single agent."""
    return f"{family}, {split}: of {n_episodes} episodes the one of median error\ndashed: imagined from the start on"


def imagination_figure(shown: Trajectories, title: str, horizon: int) -> Figure:
    """A column per agent: the entries of its observation that vary most, and its reward; dashed: as imagined.

    ``horizon``: steps that the team learns from in the model, after which a line says so.
    """
    n_agents = min(AGENTS_SHOWN, shown.obs.shape[1])
    figure = new_figure(max(WIDTH_OF_TITLE, 3.2 * n_agents), 4.6, title)
    columns = figure.subplots(2, n_agents, squeeze=False, sharex=True)
    step, colours = np.arange(1, len(shown.obs) + 1), task_colours(ENTRIES_SHOWN)[:ENTRIES_SHOWN]
    for agent in range(n_agents):
        above, below = columns[:, agent]
        real, imagined_ = shown.obs[:, agent], shown.imagined_obs[:, agent]
        for colour, entry in zip(colours, np.argsort(-real.std(axis=0), kind="stable"), strict=False):
            above.plot(step, real[:, entry], color=colour, linewidth=1.4, label=f"entry {entry}")
            above.plot(step, imagined_[:, entry], color=colour, linewidth=1.4, linestyle="--")
        below.plot(step, shown.reward[:, agent], color=colours[0], linewidth=1.4, label="real")
        below.plot(
            step, shown.imagined_reward[:, agent], color=colours[0], linewidth=1.4, linestyle="--", label="imagined"
        )
        for axes in (above, below):
            axes.axvline(min(horizon, len(step)), color="#CCCCCC", linewidth=1.0, zorder=0)
        above.legend(fontsize=7, frameon=False, ncols=2)
        open_axes(above, "", f"agent {agent}: observation")
        open_axes(below, "step of the episode", f"agent {agent}: reward")
    columns[1, 0].legend(fontsize=7, frameon=False)
    return figure
