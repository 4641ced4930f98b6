"""The record of one evaluation, and its form on disk."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import numpy as np

from mg2l_kalei.evaluation.probe import ProbeReadings
from mg2l_kalei.evaluation.statistics import Array

BY_OTHERS = "by "  # before the name of a team that acted while the run's encoder looked on
FORMAT = 1  # of the JSON; raised when a field changes its meaning
STEPS = re.compile('"step_reward": [^"]*"step_reward_error": [^"]*(?=")')  # in it: lists of numbers, without a quote


class AdaptationResult(NamedTuple):
    """Every episode of one run's evaluation on one split."""

    family: str
    split: str  # "train", "test", "ood"
    seen_only: bool  # a finite family: there are only seen tasks
    tasks: tuple[str, ...]
    fingerprint: str  # of the family's tasks
    seed: int  # of the run evaluated
    env_steps: int  # that it was trained for
    episode_steps: int
    returns: Array  # (n_tasks, n_trials, n_episodes) float32   latents: posterior means
    sampled_returns: Array | None  # the same with sampled latents
    step_reward: Array  # (n_tasks, T) float32   reward at each step of the trial, mean over agents and trials
    step_reward_error: Array  # (n_tasks, T) float32   its standard error over trials
    probe: ProbeReadings
    latents: Array | None  # (n_moments, n_tasks, n_trials, N, local_dim) float32, after probe.steps; not in the JSON
    actions: str = "mode"  # of the policy, or "sampled" from it; "by random", "by oracle": another team's
    won: Array | None = None  # (n_tasks, n_trials, n_episodes) float32   1: won; None: episodes cannot be won

    @property
    def is_looking_on(self) -> bool:
        """Whether another team acted: returns are not the run's, probes are what its encoder made of what it saw."""
        return self.actions.startswith(BY_OTHERS)

    @property
    def split_label(self) -> str:
        """What tables call the split: finite families have nothing held out, and say so."""
        return "seen tasks" if self.seen_only else f"{self.split} tasks"


def raw_name(split: str, env_steps: int, size: tuple[int, int], actions: str, on: str = "") -> str:
    """The file of raw results: by ``env_steps`` of training, ``size`` (trials per task, episodes), and how it acted.

    ``on`` follows the split where its tasks are another family's.
    """
    how = "" if actions == "mode" else f"-{actions.replace(' ', '-')}"
    return f"{split}{on}-{env_steps}-{size[0]}x{size[1]}{how}.json"


def to_json(result: AdaptationResult) -> str:
    """The result as JSON, raw returns of every episode included, latents left out (their probe readings are in)."""
    fields = result._asdict() | {"latents": None, "probe": result.probe._asdict()}
    if result.won is None:
        del fields["won"]
    return json.dumps({"format": FORMAT, **fields}, default=_plain, allow_nan=False)


def from_json(text: str, *, with_steps: bool = True) -> AdaptationResult:
    """What ``to_json`` wrote, latents left out. Raises ValueError for another format.

    ``with_steps``: False leaves out the rewards of steps, which are most of the text and take longest to read.
    """
    fields = json.loads(
        text if with_steps else STEPS.sub('"step_reward": [], "step_reward_error": [], ', text, count=1)
    )
    written = fields.pop("format", None)
    if written != FORMAT:
        raise ValueError(f"evaluation of format {written}; this version reads format {FORMAT}: evaluate the run again")
    probe = fields["probe"]
    accuracy = np.array(probe["accuracy"], dtype=np.float64)
    fields["probe"] = ProbeReadings(tuple(probe["steps"]), accuracy, probe["chance"])
    fields["tasks"] = tuple(fields["tasks"])
    for name in ("returns", "sampled_returns", "step_reward", "step_reward_error", "won"):
        fields[name] = None if fields.get(name) is None else np.array(fields[name], dtype=np.float32)
    return AdaptationResult(**fields)


def _plain(array: np.ndarray) -> list[Any]:
    """Nested lists of the shortest decimals that read back as the same float32; NaN becomes null."""
    shortest = array.astype(str).astype(np.float64).astype(object)
    shortest[np.isnan(array)] = None
    return list(shortest.tolist())
