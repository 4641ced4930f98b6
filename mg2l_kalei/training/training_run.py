"""One training run, from its folder to its table: start, resume, stop, evaluate; a killed run loses an iteration."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType

import torch

from envs.core import Interruption
from mg2l_kalei.config import ConfigError, RunConfig, differences, from_dict, read_yaml, run_dir, to_yaml
from mg2l_kalei.disk.checkpoint import CheckpointError, Checkpoints
from mg2l_kalei.disk.durable import write_atomically, write_json
from mg2l_kalei.disk.metric_log import MetricLog
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.evaluation.adaptation import metrics as evaluation_metrics
from mg2l_kalei.evaluation.adaptation import refuse_overlap
from mg2l_kalei.evaluation.results import AdaptationResult
from mg2l_kalei.training.assessment import assess, compare_runs, publish
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.training.progress import Progress
from mg2l_kalei.training.saved_run import LoadedRun, agents_of, check_tasks, describe_tasks, factory_of, load_run
from mg2l_kalei.training.system import SCHEMA, System, build, choose_device
from mg2l_kalei.types import Metrics

STOPPED = 128  # plus the signal's number: the exit code of a run that was told to stop, and saved
REFERENCES = {"none": ("mappo", "none"), "oracle": ("oracle", "oracle")}  # line -> recipe, encoder


def train(config: RunConfig) -> int:
    """Train to the end, or go on with the run that the same settings began; returns the exit code.

    0: trained and evaluated. 143 (130): stopped by SIGTERM (SIGINT) after saving; the same command goes on.
    Raises ConfigError, before anything is written, where no such run can be; CheckpointError, RunFolderLocked or
    ValueError where the run's folder forbids it; NonFiniteError where training diverged.
    """
    if config.n_threads:
        torch.set_num_threads(config.n_threads)
    run = TrainingRun(config)  # before its references, lest they be trained for a run that cannot be
    references: dict[str, Path] = {}
    if config.references:
        for line, reference in reference_configs(config).items():
            print(f"reference line {line}:")
            code = TrainingRun(reference).go()
            if code:
                return code
            references[line] = run_dir(reference)
    return run.go(references)


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


def reference_folders(run: LoadedRun) -> dict[str, Path]:
    """Folders of the run's reference runs, by line: those that there are, in the results folder that it stands in."""
    results = (run.folder.path / "../../..").resolve()
    configs = reference_configs(dataclasses.replace(run.config, results_dir=str(results)))
    folders = {line: run_dir(config) for line, config in configs.items()}
    return {line: path for line, path in folders.items() if RunFolder(path).config.is_file()}


class StopRequested(Interruption):
    """A signal came where nothing is lost by leaving."""


class StopSignal:
    """In its block, notes SIGTERM and SIGINT, for the run to save and leave; a second one ends the process at once."""

    def __init__(self) -> None:
        self.received = 0
        self._raises = False

    def __enter__(self) -> StopSignal:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raises StopRequested where a signal has been received."""
        if self.received:
            raise StopRequested

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """In this block a signal, or one received before, raises StopRequested."""
        self._raises = True
        try:
            self.check()
            yield
        finally:
            self._raises = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            os._exit(STOPPED + number)
        self.received = number
        if self._raises:
            self.check()


class TrainingRun:
    """The run of one config, in its folder. Raises ConfigError where the config cannot be built; writes nothing yet."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.folder = RunFolder(run_dir(config))
        device, warning = choose_device(config)
        if warning:
            print(f"warning: {warning}", file=sys.stderr)
        is_begun = config.resume != "never" and self.folder.config.is_file()
        start = self.folder.path if is_begun else config.init_from
        try:
            self.system = build(config, device, agents_of(start) if start else ())
            for split in self.system.family.splits:
                refuse_overlap(self.system.family, split)
        except ValueError as error:
            raise ConfigError([str(error)]) from error
        self.trainer = MetaTrainer(self.system, self.folder.path / "bad_batch.safetensors")
        self.checkpoints = Checkpoints(self.folder.checkpoints, config.keep_checkpoints)
        self._unlogged: Metrics = {}  # of an iteration whose evaluation is still to be made
        if config.init_from is not None and not is_begun:
            self._warm_start(config.init_from)

    def go(self, references: Mapping[str, Path] | None = None) -> int:
        """Train until done or told to stop, and evaluate beside the runs in ``references``; returns the exit code."""
        if self.config.resume == "never":
            self._set_aside()
        with StopSignal() as stop, self.folder.lock(), closing(MetricLog(self.folder)) as metric_log:
            self._start_or_resume()
            metric_log.cut_back(self.trainer.iteration - bool(self._unlogged))
            try:
                self._loop(metric_log, stop)
                self._finish(references or {}, stop)
                is_done = True
            except StopRequested:
                self._save()
                is_done = False
        if not is_done:
            print(f"stopped and saved at iteration {self.trainer.iteration}; the same command goes on from there")
            return STOPPED + stop.received
        return 0

    def _start_or_resume(self) -> None:
        folder, trainer = self.folder, self.trainer
        is_begun = folder.config.is_file()
        loaded = self.checkpoints.load_latest() if is_begun else None
        if loaded is not None:
            check_tasks(folder, self.system.family)
            self._refuse_other_settings()
            trainer.load_state_dict(loaded.state)
            self._unlogged = loaded.state.get("unlogged", {})
            n_iters = self.config.n_iters
            print(f"{folder.path}: going on from iteration {trainer.iteration} of {n_iters}")
            if trainer.iteration > n_iters:
                print(
                    f"warning: n_iters={n_iters}, but this run is longer; a run_name begins another",
                    file=sys.stderr,
                )
        elif is_begun:
            raise CheckpointError(f"{folder.path} has no checkpoint left; start afresh with resume=never")
        elif any(step > 0 for step in self.checkpoints.steps()):
            raise CheckpointError(
                f"{folder.path} has checkpoints but no {folder.config.name}; put it back, or start afresh with "
                "resume=never"
            )
        else:
            print(f"{folder.path}: {self.config.n_iters} iterations on {trainer.device}")
            self._save()
            write_json(folder.tasks, describe_tasks(self.system.family))
        write_atomically(folder.config, to_yaml(self.config))  # last: its being there says that the rest is

    def _refuse_other_settings(self) -> None:
        """The folder's name holds a hash of the settings, unless ``run_name`` was given."""
        differing = differences(from_dict(read_yaml(self.folder.config), SCHEMA), self.config)
        if differing:
            raise ConfigError(
                [
                    f"{self.folder.path} holds a run of other settings than {' '.join(differing)}; choose another "
                    "run_name, or resume=never to start afresh"
                ]
            )

    def _warm_start(self, path: str) -> None:
        try:
            source = self._load(path)
            system = source.system
            self.system.load_weights({"encoder": system.encoder.state_dict(), "learner": system.learner.state_dict()})
        except (FileNotFoundError, ValueError) as error:
            raise ConfigError([f"init_from={path}: {error}"]) from error
        print(f"initial weights from {path}, iteration {source.iteration}")

    def _load(self, path: str | Path) -> LoadedRun:
        """Another run, on this one's device, where it names the same code or none."""
        return load_run(path, device=str(self.system.device), factory=factory_of(self.config), n_workers=None)

    def _loop(self, metric_log: MetricLog, stop: StopSignal) -> None:
        config, trainer = self.config, self.trainer
        steps = self.system.steps_per_iteration
        with Progress(config.n_iters, steps, done=trainer.iteration) as progress:
            while self._unlogged or trainer.iteration < config.n_iters:
                stop.check()
                metrics, self._unlogged = self._unlogged or trainer.iterate(), {}
                is_last = trainer.iteration == config.n_iters
                is_best, evaluated = False, {}
                if is_last or (config.eval_interval and trainer.iteration % config.eval_interval == 0):
                    self._unlogged = metrics
                    with stop.at_once():
                        result = self._assess(self.system, trainer.env_steps, "train", "selection")
                    self._unlogged, evaluated = {}, evaluation_metrics(result)
                    is_best = trainer.note_evaluation(evaluated)
                if trainer.iteration % config.log_interval == 0 or evaluated or is_last:
                    metric_log.log(trainer.env_steps, trainer.iteration, metrics | evaluated)
                if trainer.iteration % config.checkpoint_interval == 0 or is_last or is_best:
                    self._save(best=is_best)
                progress.update(trainer.iteration, float(metrics["train/episode_return"]))
        stop.check()

    def _save(self, best: bool = False) -> None:
        unlogged = {name: float(value) for name, value in self._unlogged.items()}
        self.checkpoints.save(self.trainer.state_dict() | {"unlogged": unlogged}, self.trainer.iteration, best=best)

    def _assess(self, system: System, env_steps: int, split: str, purpose: str = "report") -> AdaptationResult:
        config = self.config
        return assess(
            system,
            env_steps,
            split,
            n_episodes=config.eval_episodes,
            n_trials=config.eval_trials,
            actions=config.eval_actions,
            purpose=purpose,
        )

    def _finish(self, references: Mapping[str, Path], stop: StopSignal) -> None:
        """Evaluate on every split beside the references; print tables and where the pictures are."""
        runs = {line: self._load(path) for line, path in references.items()}
        for split in self.system.family.splits:
            with stop.at_once():
                result = self._assess(self.system, self.trainer.env_steps, split)
                beside = {line: [self._assess(run.system, run.env_steps, split)] for line, run in runs.items()}
            comparison = compare_runs(self.config.algo, [result], beside)
            print("\n" + publish(self.folder, self.system, result, comparison))
        stop.check()
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
