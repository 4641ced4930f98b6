"""Adaptation by training: for each task a copy of a system, or a fresh one, trained on that alone and not kept.

What it is for: the lines fine-tune and scratch, beside systems that adapt by inferring the task.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from envs.core import Refusal
from mg2l_kalei.evaluation.probe import ProbeReadings
from mg2l_kalei.evaluation.results import AdaptationResult
from mg2l_kalei.training.assessment import assess
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.training.saved_run import LoadedRun, agents_of
from mg2l_kalei.training.system import System, build


def fine_tuned_result(run: LoadedRun, split: str, env_steps: int, *, fresh: bool) -> AdaptationResult:
    """Evaluation of a copy of ``run``'s system for each task of ``split``, trained on that one for ``env_steps``.

    ``fresh``: of systems with initial weights instead. The result's ``env_steps`` are all that a copy was trained for.
    Raises Refusal where a trial takes more steps, and where the encoder learns: that takes several tasks.
    """
    if run.system.encoder.learns:
        kind = run.config.kinds["encoder"]
        raise Refusal(f"{run.folder.path}: encoder.kind={kind} learns to tell tasks apart, which one task cannot teach")
    if not run.system.learner.is_on_policy:
        kind = run.config.kinds["learner"]
        raise Refusal(
            f"{run.folder.path}: learner.kind={kind} would begin by exploring anew: expected an on-policy one"
        )
    if env_steps < run.system.trial_steps:
        raise Refusal(f"steps={env_steps} is less than a trial of {run.folder.path}, {run.system.trial_steps} steps")
    results = []
    for task in run.family.task_ids(split).tolist():
        system, trained_for = fine_tuned(run, task, env_steps, fresh=fresh)
        results.append(
            assess(
                system,
                trained_for + (0 if fresh else run.env_steps),
                split,
                n_episodes=run.config.eval_episodes,
                n_trials=run.config.eval_trials,
                actions=run.config.eval_actions,
                bad_batch=run.folder.bad_batch,
                only=task,
            )
        )
    return _together(results)


def fine_tuned(run: LoadedRun, task: int, env_steps: int, *, fresh: bool = False) -> tuple[System, int]:
    """A copy of ``run``'s system trained on number ``task`` alone, and the environment steps that this took.

    Whole iterations of at most ``env_steps`` in all, of at most as many rows as the run had: fewer than one trial in
    each iteration is lacking. Optimisers and schedules begin anew.
    """
    trial_steps = run.system.trial_steps
    n_trials = env_steps // trial_steps
    n_iters = -(-n_trials // run.config.n_rows)
    n_rows = n_trials // n_iters
    config = dataclasses.replace(run.config, n_rows=n_rows, n_iters=n_iters, total_env_steps=None)
    system = build(config, run.system.device, agents_of(run.folder.path))
    if not fresh:
        system.load_weights(run.system.weights(run.iteration, run.env_steps))
    trainer = MetaTrainer(system, run.folder.bad_batch, tasks=[task])
    while trainer.iteration < n_iters:
        trainer.iterate()
    return system, trainer.env_steps


def _together(results: Sequence[AdaptationResult]) -> AdaptationResult:
    """Of one task each, as one of all. Each had a system of its own, so no probe can tell tasks by their latents."""
    first, n_tasks = results[0], len(results)
    names = ("returns", "step_reward", "step_reward_error")
    arrays: dict[str, Any] = {name: np.concatenate([getattr(result, name) for result in results]) for name in names}
    probe = ProbeReadings(first.probe.steps, np.full_like(first.probe.accuracy, np.nan), 1 / n_tasks)
    if first.won is not None:
        arrays["won"] = np.concatenate([result.won for result in results if result.won is not None])
    tasks = tuple(result.tasks[0] for result in results)
    return first._replace(**arrays, tasks=tasks, probe=probe, sampled_returns=None, latents=None)
