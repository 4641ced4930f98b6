"""Training as a function call: what it returns, and what is told to callers while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mg2l_kalei.evaluation.results import AdaptationResult


class StopTraining(Exception):
    """Raised in ``on_iteration`` or ``on_evaluation``: the run is saved and left, its message says why.

    Training with the same config goes on from there, bit for bit as if it had not been stopped.
    """


class TrainingEvent(NamedTuple):
    """How far a run is, when an iteration has been made, logged, and saved where that was due."""

    folder: Path  # of the run
    iteration: int  # made so far
    n_iters: int  # of the whole run
    env_steps: int  # made so far
    total_env_steps: int  # of the whole run
    metrics: Mapping[str, float]  # of the iteration, by path; NaN and infinities as they are


class TrainingResult(NamedTuple):
    """What is left of a run that was trained to its end or stopped; all of it stands in ``folder`` too."""

    folder: Path
    exit_code: int  # of the program: 0, 1: trained, but the last results could not be written; 128 + signal: stopped
    stopped_by: str | None  # "SIGTERM", or what StopTraining said; None: it was trained to the end
    iteration: int  # made so far, in all sessions
    env_steps: int  # made so far, in all sessions
    metrics: Mapping[str, float | None]  # the last that were logged, by path; None: not finite
    evaluations: Mapping[str, AdaptationResult]  # by split, of the table at the end; none where it was stopped


class Callback:
    """Told what happens in a run: override what is wanted. What these raise, except StopTraining, ends the program.

    They belong to the run asked for, not to its reference runs. Training waits until they return, and what they draw
    from global random generators changes nothing in it.
    """

    def on_iteration(self, event: TrainingEvent) -> None:
        """After every iteration."""

    def on_evaluation(self, event: TrainingEvent, evaluation: AdaptationResult) -> None:
        """After an evaluation on training tasks, every ``eval_interval`` iterations, and before ``on_iteration``.

        Its figures are in the event's metrics: ``evaluation/train/return_k0`` is the IQM of first episodes' returns.
        """

    def on_end(self, result: TrainingResult) -> None:
        """When the run is at its end or was stopped, but not when it failed."""
