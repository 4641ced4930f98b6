"""Evaluation of a run's adaptation: trials played by its team, the table, the raw results and the pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mg2l_kalei.acting.collector import Team, collect
from mg2l_kalei.disk.durable import write_atomically
from mg2l_kalei.disk.metric_log import attempt
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.evaluation.adaptation import evaluate
from mg2l_kalei.evaluation.comparison import Comparison, compare
from mg2l_kalei.evaluation.figures import adaptation_figure, member_figure, save_picture, task_space_figure
from mg2l_kalei.evaluation.report import adaptation_table
from mg2l_kalei.evaluation.results import AdaptationResult, to_json
from mg2l_kalei.seeding import numpy_generator, torch_generator
from mg2l_kalei.training.saved_run import LoadedRun
from mg2l_kalei.training.system import System
from mg2l_kalei.types import Clock, Rollout


def assess(
    system: System,
    env_steps: int,
    split: str,
    *,
    n_episodes: int,
    n_trials: int,
    actions: str,
    purpose: str = "report",
) -> AdaptationResult:
    """Play evaluation trials with online beliefs and ``actions`` ("mode" or "sampled"), on environments of their own.

    ``env_steps``: what the system was trained for; with the seed, the split and the purpose it decides every random
    number. ``purpose``: "selection" of the best checkpoint plays other episodes than those of a "report".
    """
    generator = torch_generator(system.config.seed, "evaluation", purpose, split, env_steps, device=system.device)

    explore = Clock(0, env_steps, env_steps) if actions == "sampled" else None  # as at the end of training

    def play(task: Tensor, n_steps: int, sample: bool) -> Rollout:
        env = system.family.make(len(task), system.device, generator)
        team = Team(system.learner, system.encoder, generator)
        return collect(env, team, task.to(system.device), n_steps, explore=explore, sample=sample)

    with torch.no_grad():
        result = evaluate(
            play, system.family, split, n_episodes, n_trials, seed=system.config.seed, env_steps=env_steps
        )
    return result._replace(actions=actions)


def compare_runs(
    label: str, runs: Sequence[AdaptationResult], references: Mapping[str, Sequence[AdaptationResult]]
) -> Comparison:
    """A method's runs (seeds) beside its reference lines, with bootstrap intervals."""
    return compare(label, runs, references, numpy_generator(runs[0].seed, "bootstrap"))


def assess_runs(
    runs: Sequence[LoadedRun],
    references: Mapping[str, Sequence[LoadedRun]],
    split: str,
    *,
    n_episodes: int,
    n_trials: int,
    actions: str,
) -> str:
    """Evaluate runs that are seeds of one method beside reference runs; the table, as text.

    Raw results go into each run's folder, references' too; the table and pictures into the first's. Raises ValueError
    where the runs cannot be compared, before anything is written.
    """

    def play(run: LoadedRun) -> AdaptationResult:
        return assess(run.system, run.env_steps, split, n_episodes=n_episodes, n_trials=n_trials, actions=actions)

    results = [play(run) for run in runs]
    beside = {line: [play(run) for run in seeds] for line, seeds in references.items()}
    comparison = compare_runs(runs[0].config.algo, results, beside)
    for line, seeds in references.items():
        for run, result in zip(seeds, beside[line], strict=True):
            _write_raw(run.folder, result)
    for run, result in zip(runs[1:], results[1:], strict=True):
        _write_raw(run.folder, result)
    return publish(runs[0].folder, runs[0].system, results[0], comparison)


def publish(folder: RunFolder, system: System, result: AdaptationResult, comparison: Comparison) -> str:
    """Write raw results and pictures into the run's folder; the table, with the pictures' paths, as text."""
    _write_raw(folder, result)
    with attempt(f"making {folder.figures}"):
        folder.figures.mkdir(parents=True, exist_ok=True)
    pictures = [folder.figures / f"adaptation-{result.split}.png"]
    drawn = [save_picture(pictures[0], lambda: adaptation_figure(comparison))]
    latents = result.latents
    if latents is not None and latents.shape[-1] > 0:
        pictures.append(folder.figures / f"task-space-{result.split}.png")
        drawn.append(save_picture(pictures[-1], lambda: task_space_figure(latents, result.probe, result.tasks)))
    for figure in system.learner.figures():
        pictures.append(folder.figures / f"{figure.name}.png")
        drawn.append(save_picture(pictures[-1], partial(member_figure, figure)))
    written: list[Path] = [picture for picture, is_drawn in zip(pictures, drawn, strict=True) if is_drawn]
    table = adaptation_table(comparison)
    write_atomically(folder.evaluation / f"{result.split}.txt", table + "\n")
    return "\n".join([table, "", *(f"picture: {path}" for path in written)])


def _write_raw(folder: RunFolder, result: AdaptationResult) -> None:
    _, n_trials, n_episodes = result.returns.shape
    how = "" if result.actions == "mode" else f"-{result.actions}"
    name = f"{result.split}-{result.env_steps}-{n_trials}x{n_episodes}{how}.json"  # steps, trials per task, episodes
    write_atomically(folder.evaluation / name, to_json(result))
