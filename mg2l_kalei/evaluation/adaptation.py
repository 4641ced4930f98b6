"""How fast a run adapts: trials of several episodes on every task of a split, from the prior belief on.

The evaluator owns neither environment nor policy: it is given a function that plays trials, and reads
returns and latents off what was played.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs.core import EnvSpec, Refusal, TaskFamily
from mg2l_kalei.buffers.trials import trial_size
from mg2l_kalei.evaluation.probe import read_probes
from mg2l_kalei.evaluation.results import AdaptationResult
from mg2l_kalei.evaluation.statistics import Array, aggregate
from mg2l_kalei.types import Rollout

MAX_ROWS = 512  # trials played at once,
MAX_GIB = 4.0  # and what they may take together [GiB]
EARLY_STEPS = (1, 5, 10, 25, 50, 100, 250, 500)  # moments of the first episode at which latents are kept

# (task numbers (B,) int64, steps, sample the latents?) -> one trial in every row
PlayTrials = Callable[[Tensor, int, bool], Rollout]


class Trials(NamedTuple):
    """What is kept of trials played. R rows."""

    returns: Array  # (R, n_episodes)
    reward: Array  # (R, T)   mean over agents
    latents: Array  # (n_moments, R, N, local_dim)
    won: Array  # (R, n_episodes)   1: won, of families that can be


def evaluate(
    play: PlayTrials,
    family: TaskFamily,
    split: str,
    n_episodes: int,
    n_trials: int,
    *,
    seed: int = 0,
    env_steps: int = 0,
    also_sampled: bool = False,
    only: int | None = None,
) -> AdaptationResult:
    """Play ``n_trials`` trials of ``n_episodes`` episodes on every task of ``split``, or on number ``only`` of all.

    ``also_sampled``: then the same with sampled latents. ``play`` is called with at most ``MAX_ROWS`` rows at a time,
    and must never play the same episode twice. ``seed`` and ``env_steps`` describe the run and are stored. Raises
    KeyError for a split that the family lacks, Refusal where held-out tasks overlap training tasks, and where trials
    are too short for their episodes.
    """
    refuse_overlap(family, split)
    tasks = family.task_ids(split) if only is None else torch.tensor([only])
    rows = tasks.repeat_interleave(n_trials)
    kept = latent_steps(n_episodes, family.spec.episode_steps)
    mean = _play_all(play, rows, family.spec, n_episodes, kept)
    sampled = _play_all(play, rows, family.spec, n_episodes, kept, sample=True) if also_sampled else None
    by_task = (len(tasks), n_trials)
    reward = mean.reward.reshape(*by_task, -1)
    latents = mean.latents.reshape(len(kept), *by_task, *mean.latents.shape[2:])
    return AdaptationResult(
        family=family.name,
        split=split,
        seen_only=family.seen_only,
        tasks=tuple(family.tasks[task].name for task in tasks.tolist()),
        fingerprint=family.fingerprint(),
        seed=seed,
        env_steps=env_steps,
        episode_steps=family.spec.episode_steps,
        returns=mean.returns.reshape(*by_task, n_episodes),
        sampled_returns=None if sampled is None else sampled.returns.reshape(*by_task, n_episodes),
        step_reward=reward.mean(axis=1),
        step_reward_error=reward.std(axis=1, ddof=min(1, n_trials - 1)) / math.sqrt(n_trials),  # 0 of one
        probe=read_probes(latents, kept),
        latents=latents,
        won=mean.won.reshape(*by_task, n_episodes) if family.spec.can_be_won else None,
    )


def refuse_overlap(family: TaskFamily, split: str) -> None:
    """Raise Refusal if ``split`` is held out and one of its tasks has the parameters of a training task."""
    if split == "train":
        return
    trained = {canonical(task.params): task.name for task in family.splits.get("train", ())}
    held_out = family.splits.get(split, ())
    overlap = [(task.name, trained[key]) for task in held_out if (key := canonical(task.params)) in trained]
    if overlap:
        pairs = ", ".join(f"{name!r} = {seen!r}" for name, seen in overlap[:3])
        raise Refusal(
            f"{family.name}: {len(overlap)} of the {len(held_out)} {split!r} tasks are training tasks ({pairs}); "
            "held-out tasks must have parameters that were never trained on"
        )


def episode_returns(rollout: Rollout, n_episodes: int) -> Tensor:
    """Return of episodes 0 ... n_episodes - 1 of each row: (B, n_episodes) float64.

    Reward summed over the episode, averaged over agents. NaN where the row did not finish the episode;
    rows whose episodes end early start more than ``n_episodes``, of which the first count.
    """
    returns = _by_episode(rollout, rollout.steps.reward.double().mean(dim=-1), n_episodes)
    finished = _by_episode(rollout, rollout.steps.ends.double(), n_episodes) > 0
    return torch.where(finished, returns, torch.nan)


def episodes_won(rollout: Rollout, n_episodes: int) -> Tensor:
    """1 for each of the first episodes of each row that was won, else 0: (B, n_episodes) float64."""
    return _by_episode(rollout, rollout.steps.won.double(), n_episodes)


def _by_episode(rollout: Rollout, each: Tensor, n_episodes: int) -> Tensor:
    """Sums of ``each`` (T, B) over the first episodes of each row: (B, n_episodes)."""
    episode = rollout.steps.episode_start.long().cumsum(dim=0) - 1  # (T, B)
    counted = (torch.arange(n_episodes, device=episode.device)[:, None, None] == episode).double()  # (E, T, B)
    return torch.einsum("etb,tb->be", counted, each)


def latent_steps(n_episodes: int, episode_steps: int) -> tuple[int, ...]:
    """Moments at which latents are kept, in transitions seen: early ones, each full episode's end, the last there is.

    The last latent acted on has seen all transitions of the trial but one.
    """
    last = n_episodes * episode_steps - 1
    ends = [k * episode_steps for k in range(1, n_episodes)]
    early = [step for step in EARLY_STEPS if step < episode_steps]
    return tuple(sorted({step for step in [*early, *ends, last] if step <= last}))


def rows_at_once(spec: EnvSpec, n_steps: int) -> int:
    """Trials of ``n_steps`` that are played at once: as many as ``MAX_ROWS`` and ``MAX_GIB`` allow, at least one."""
    return max(1, min(MAX_ROWS, int(MAX_GIB / trial_size(spec, n_steps))))


def _play_all(
    play: PlayTrials, rows: Tensor, spec: EnvSpec, n_episodes: int, kept: Sequence[int], *, sample: bool = False
) -> Trials:
    n_steps, episode_steps = n_episodes * spec.episode_steps, spec.episode_steps
    chunks = []
    for task in rows.split(rows_at_once(spec, n_steps)):
        rollout = play(task, n_steps, sample)
        returns = episode_returns(rollout, n_episodes)
        if returns.isnan().any():
            raise Refusal(
                f"trials of {len(rollout.latent)} steps did not finish {n_episodes} episodes of {episode_steps} steps"
            )
        reward = rollout.steps.reward.mean(dim=-1).T  # (B, T)
        won = episodes_won(rollout, n_episodes)
        chunks.append(Trials(_array(returns), _array(reward), _array(rollout.latent[list(kept)]), _array(won)))
    return Trials(
        returns=np.concatenate([chunk.returns for chunk in chunks]),
        reward=np.concatenate([chunk.reward for chunk in chunks]),
        latents=np.concatenate([chunk.latents for chunk in chunks], axis=1),
        won=np.concatenate([chunk.won for chunk in chunks]),
    )


def _array(tensor: Tensor) -> Array:
    return tensor.detach().float().cpu().numpy()


def canonical(value: Any) -> Any:
    """A hashable form in which equal parameters are equal, however they are written (1 or 1.0, list or tuple)."""
    if isinstance(value, (list, tuple)):
        return tuple(canonical(item) for item in value)
    if hasattr(value, "items"):
        return tuple(sorted((key, canonical(item)) for key, item in value.items()))
    return value


def metrics(result: AdaptationResult) -> dict[str, float]:
    """What is logged of an evaluation during training, under ``evaluation/<split>/``."""
    at_k = aggregate(result.returns[None])
    prefix = f"evaluation/{result.split}"
    returns = {f"{prefix}/return_k{k}": float(value) for k, value in enumerate(at_k)}
    accuracy = result.probe.accuracy.mean(axis=1)
    readings = zip(result.probe.steps, accuracy, strict=True) if len(result.tasks) > 1 else []  # one is always told
    probes = {f"{prefix}/probe_{step}": float(value) for step, value in readings}
    won = [] if result.won is None else result.won.mean(axis=(0, 1)).tolist()
    return returns | probes | {f"{prefix}/won_k{k}": value for k, value in enumerate(won)}
