"""One training run, from its folder to its table: start, resume, stop, evaluate; a killed run loses an iteration."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import torch

from mg2l_kalei.assessment import assess, compare_runs, publish
from mg2l_kalei.build import SCHEMA, System, build, choose_device
from mg2l_kalei.checkpoint import CheckpointError, Checkpoints
from mg2l_kalei.config import RunConfig, from_dict, read_yaml, run_dir, to_yaml
from mg2l_kalei.durable import write_atomically, write_json
from mg2l_kalei.evaluation.adaptation import metrics as evaluation_metrics
from mg2l_kalei.evaluation.results import AdaptationResult
from mg2l_kalei.meta_trainer import MetaTrainer
from mg2l_kalei.metric_log import MetricLog
from mg2l_kalei.progress import Progress
from mg2l_kalei.run_folder import RunFolder
from mg2l_kalei.saved_run import check_tasks, describe_tasks, load_run

STOPPED = 128  # plus the signal's number: the exit code of a run that was told to stop, and saved
REFERENCES = {"none": ("mappo", "none"), "oracle": ("oracle", "oracle")}  # line -> recipe, encoder


def train(config: RunConfig) -> int:
    """Train to the end, or go on with the run that the same settings began; returns the exit code.

    0: trained and evaluated. 143 (130): stopped by SIGTERM (SIGINT) after saving; the same command goes on.
    Raises CheckpointError, RunFolderLocked or ValueError where the run's folder forbids it, NonFiniteError where
    training diverged.
    """
    if config.n_threads:
        torch.set_num_threads(config.n_threads)
    references: dict[str, Path] = {}
    if config.references:
        for line, reference in reference_configs(config).items():
            print(f"reference line {line}:")
            code = TrainingRun(reference).go()
            if code:
                return code
            references[line] = run_dir(reference)
    return TrainingRun(config, references).go()


def reference_configs(config: RunConfig) -> dict[str, RunConfig]:
    """The same run without task inference, and with the oracle: full sharing, all other settings the same."""
    lines = {}
    for line, (algo, encoder) in REFERENCES.items():
        kinds = {**config.kinds, "encoder": encoder, "sharing": "full"}
        axes = {axis: SCHEMA.axes[axis][kinds[axis]][1] for axis in ("encoder", "sharing")}
        lines[line] = dataclasses.replace(
            config, algo=algo, kinds=kinds, references=False, run_name=None, init_from=None, **axes
        )
    return lines


class StopSignal:
    """Notes SIGTERM and SIGINT, for the loop to save and leave; a second one ends the process at once."""

    def __init__(self) -> None:
        self.received = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            os._exit(STOPPED + number)
        self.received = number


class TrainingRun:
    """The run of one config, in its folder. ``references``: folders of the lines to compare with at the end."""

    def __init__(self, config: RunConfig, references: dict[str, Path] | None = None) -> None:
        self.config = config
        self.references = references or {}
        self.folder = RunFolder(run_dir(config))

    def go(self) -> int:
        """Train until done or told to stop; returns the exit code."""
        if self.config.resume == "never":
            self._set_aside()
        device, warning = choose_device(self.config)
        if warning:
            print(f"warning: {warning}", file=sys.stderr)
        stop = StopSignal()
        with self.folder.lock():
            system = build(self.config, device)
            trainer = MetaTrainer(system, self.folder.path / "bad_batch.safetensors")
            self.checkpoints = Checkpoints(self.folder.checkpoints, self.config.keep_checkpoints)
            self.metric_log = MetricLog(self.folder)
            self._start_or_resume(trainer)
            self._loop(trainer, stop)
            self.metric_log.close()
            if trainer.iteration < self.config.n_iters:
                print(f"stopped and saved at iteration {trainer.iteration}; the same command goes on from there")
                return STOPPED + stop.received
            self._finish(system, trainer.env_steps)
        return 0

    def _start_or_resume(self, trainer: MetaTrainer) -> None:
        folder, family = self.folder, trainer.system.family
        is_begun = folder.config.is_file()
        loaded = self.checkpoints.load_latest() if is_begun else None
        if loaded is not None:
            check_tasks(folder, family)
            self._refuse_other_settings()
            trainer.load_state_dict(loaded.state)
            print(f"{folder.path}: going on from iteration {trainer.iteration} of {self.config.n_iters}")
        elif is_begun:
            raise CheckpointError(f"{folder.path} has no checkpoint left; start afresh with resume=never")
        else:
            if self.config.init_from is not None:
                self._warm_start(trainer, self.config.init_from)
            print(f"{folder.path}: {self.config.n_iters} iterations on {trainer.device}")
            self._save(trainer)
            write_json(folder.tasks, describe_tasks(family))
        write_atomically(folder.config, to_yaml(self.config))  # last: its being there says that the rest is
        self.metric_log.cut_back(trainer.iteration)

    def _refuse_other_settings(self) -> None:
        """The folder's name holds a hash of the settings, unless ``run_name`` was given."""
        was = from_dict(read_yaml(self.folder.config), SCHEMA)
        anonymous = [dataclasses.replace(config, run_name=None) for config in (was, self.config)]
        if run_dir(anonymous[0]).name != run_dir(anonymous[1]).name:
            raise ValueError(
                f"{self.folder.path} holds a run of other settings (see its config.yaml); choose another run_name, "
                "or resume=never to start afresh"
            )

    def _warm_start(self, trainer: MetaTrainer, path: str) -> None:
        source = load_run(path, device=str(trainer.device))
        trainer.load_weights(
            {"encoder": source.system.encoder.state_dict(), "learner": source.system.learner.state_dict()}
        )
        print(f"initial weights from {path}, iteration {source.iteration}")

    def _loop(self, trainer: MetaTrainer, stop: StopSignal) -> None:
        config = self.config
        steps = trainer.system.steps_per_iteration
        with Progress(config.n_iters, steps, done=trainer.iteration) as progress:
            while trainer.iteration < config.n_iters and not stop.received:
                metrics = trainer.iterate()
                is_last = trainer.iteration == config.n_iters
                is_best = False
                if config.eval_interval and trainer.iteration % config.eval_interval == 0 and not is_last:
                    evaluated = evaluation_metrics(self._assess(trainer.system, trainer.env_steps, "train"))
                    is_best = trainer.note_evaluation(evaluated)
                    metrics |= evaluated
                if trainer.iteration % config.log_interval == 0 or is_last:
                    self.metric_log.log(trainer.env_steps, trainer.iteration, metrics)
                if trainer.iteration % config.checkpoint_interval == 0 or is_last or is_best or stop.received:
                    self._save(trainer, best=is_best)
                progress.update(trainer.iteration, float(metrics["train/episode_return"]))

    def _save(self, trainer: MetaTrainer, best: bool = False) -> None:
        self.checkpoints.save(trainer.state_dict(), trainer.iteration, best=best)

    def _assess(self, system: System, env_steps: int, split: str) -> AdaptationResult:
        config = self.config
        return assess(system, env_steps, split, n_episodes=config.eval_episodes, n_trials=config.eval_trials)

    def _finish(self, system: System, env_steps: int) -> None:
        """Evaluate on every split beside the references; print tables and where the pictures are."""
        runs = {line: load_run(path) for line, path in self.references.items()}
        for split in system.family.splits:
            result = self._assess(system, env_steps, split)
            beside = {line: [self._assess(run.system, run.env_steps, split)] for line, run in runs.items()}
            comparison = compare_runs(self.config.algo, [result], beside)
            print("\n" + publish(self.folder, system, result, comparison))
        print(f"run folder: {self.folder.path}")

    def _set_aside(self) -> None:
        """Rename what is in the run's place: nothing is deleted."""
        path = self.folder.path
        if not path.exists():
            return
        number = 1
        while (aside := path.with_name(f"{path.name}.old{number}")).exists():
            number += 1
        with self.folder.lock():
            path.rename(aside)
        print(f"the former run was set aside as {aside}")
