"""One training run, from its folder to its table: start, resume, stop, evaluate; a killed run loses an iteration."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import torch

from envs.core import Refusal
from mg2l_kalei.config import ConfigError, RunConfig, differences, run_dir, to_yaml
from mg2l_kalei.disk.checkpoint import CheckpointError, Checkpoints, Loaded
from mg2l_kalei.disk.durable import write_atomically, write_json
from mg2l_kalei.disk.metric_log import MetricLog
from mg2l_kalei.disk.output import say
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.evaluation.adaptation import metrics as evaluation_metrics
from mg2l_kalei.evaluation.adaptation import refuse_overlap
from mg2l_kalei.evaluation.results import AdaptationResult
from mg2l_kalei.processes import ALONE, Processes
from mg2l_kalei.training.assessment import assess, compare_runs, publish
from mg2l_kalei.training.callbacks import Callback, StopTraining, TrainingEvent, TrainingResult
from mg2l_kalei.training.lineage import Ancestors, ancestors_of, refuse_trained_on
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.training.progress import Progress
from mg2l_kalei.training.saved_run import (
    LoadedRun,
    agents_of,
    check_tasks,
    counts,
    describe_tasks,
    factory_of,
    fitting,
    identity,
    load_run,
    read_config,
    refuse_remains,
)
from mg2l_kalei.training.stop_signal import STOPPED, StopRequested, StopSignal
from mg2l_kalei.training.system import SCHEMA, System, build, choose_device
from mg2l_kalei.types import Metrics

References = Callable[[StopSignal], Mapping[str, Path]]  # folders of the reference runs, by line, once they are there


def no_references(stop: StopSignal) -> Mapping[str, Path]:
    """The run alone."""
    return {}


class TrainingRun:
    """The run of one config, in its folder. Raises ConfigError where the config cannot be built; writes nothing yet.

    ``folder``: where it is; None: where its settings place it. ``deadline``: when it saves and leaves, see
    ``StopSignal``.
    """

    def __init__(
        self,
        config: RunConfig,
        callbacks: Sequence[Callback] = (),
        *,
        folder: Path | None = None,
        deadline: float | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.config, self.callbacks, self.deadline = config, callbacks, deadline
        self.folder = RunFolder(folder or run_dir(config))
        device, warning = choose_device(config)
        if warning:
            say(f"warning: {warning}", is_error=True)
        is_begun = config.resume != "never" and self.folder.config.is_file()
        start = self.folder.path if is_begun else config.init_from
        try:
            self.system = build(config, device, agents_of(start) if start else (), processes=processes)
            for split in self.system.family.splits:
                refuse_overlap(self.system.family, split)
        except Refusal as error:
            raise ConfigError(str(error).split("\n")) from error
        self.trainer = MetaTrainer(self.system, self.folder.bad_batch)
        if config.total_env_steps is not None:
            n_iters = self.trainer.iterations_for(config.total_env_steps)
            self.config = dataclasses.replace(config, n_iters=n_iters, total_env_steps=None)
            self.trainer.total_env_steps = self.trainer.env_steps_of(n_iters)
        self.checkpoints = Checkpoints(
            self.folder.checkpoints, config.keep_checkpoints, identity(config, self.system.family)
        )
        self.evaluations: dict[str, AdaptationResult] = {}  # of the table at the end, by split
        self._unlogged: Metrics = {}  # of an iteration whose evaluation is still to be made
        self._started_from: Ancestors = ()
        if config.init_from is not None and not is_begun:
            self._warm_start(config.init_from)

    def go(self, references: References = no_references) -> TrainingResult:
        """Train until done or told to stop, and evaluate beside the reference runs.

        ``references`` is asked for them once this run is trained, and may wait.
        """
        if self.config.resume == "never":
            self._set_aside()
        log = MetricLog(self.folder, self.config.sinks)
        with StopSignal(self.deadline) as stop, self.folder.lock(), closing(log) as metric_log:
            self.folder.refuse_links()
            self.folder.remove_leftovers()
            self._start_or_resume()
            self._cut_back(metric_log)
            try:
                self._loop(metric_log, stop)
                is_lost = self._finish(references(stop), stop)
                return self.result(1 if is_lost else 0, metrics=metric_log.last)
            except (StopRequested, StopTraining) as stopped:
                self._save()
                number = stop.received or signal.SIGTERM
                reason = str(stopped) or signal.Signals(number).name
        but = " without resume=never" if self.config.resume == "never" else ""
        say(f"stopped and saved at iteration {self.trainer.iteration}; the same command{but} goes on from there")
        return self.result(STOPPED + number, reason, metrics=metric_log.last)

    def result(
        self, exit_code: int, stopped_by: str | None = None, *, metrics: Mapping[str, float | None] | None = None
    ) -> TrainingResult:
        """What there is of the run now."""
        path, iteration, env_steps = self.folder.path, self.trainer.iteration, self.trainer.env_steps
        return TrainingResult(path, exit_code, stopped_by, iteration, env_steps, metrics or {}, self.evaluations)

    def _start_or_resume(self) -> None:
        folder = self.folder
        if folder.config.is_file():
            check_tasks(folder, self.system.family)
            self._refuse_other_settings()
            loaded = self.checkpoints.load_latest()
            if loaded is None:
                raise CheckpointError(f"{folder.path} has no checkpoint left; start afresh with resume=never")
            self._resume(loaded)
            if self.trainer.iteration > self.config.n_iters:
                return  # nothing of the longer run is changed
        else:
            refuse_remains(folder, self.checkpoints)
            say(f"{folder.path}: {self.config.n_iters} iterations on {self.trainer.device}, {self.trainer.sizes}")
            self._save()
            write_json(folder.tasks, {**describe_tasks(self.system.family), "started_from": self._started_from})
        write_atomically(folder.config, to_yaml(self.config))  # last: its being there says that the rest is

    def _resume(self, loaded: Loaded) -> None:
        trainer, n_iters = self.trainer, self.config.n_iters
        with fitting(self.folder, loaded.step):
            counts(loaded.state["weights"])
            self.system.processes.tell("load", loaded.step)
            trainer.load_state_dict(loaded.state, loaded.shards)
            unlogged = loaded.state["training"]["unlogged"]
            n_threads = loaded.state["training"]["n_threads"]
            if loaded.state["training"].get("selected_by", self._selected_by) != self._selected_by:
                trainer.best_return = None  # of other trials: no measure of what comes
            self._unlogged = {name: float(value) for name, value in unlogged.items()}
        if trainer.iteration > n_iters:
            reason = f"this run has {trainer.iteration}: it is evaluated as it is, and its config stays"
            say(f"warning: n_iters={n_iters}, but {reason}; a run_name begins another", is_error=True)
        else:
            say(f"{self.folder.path}: going on from iteration {trainer.iteration} of {n_iters}")
        if n_threads != torch.get_num_threads():
            now = torch.get_num_threads()
            reason = f"{now} threads instead of {n_threads}: last bits may differ, n_threads={n_threads} keeps them"
            say(f"warning: {reason}", is_error=True)

    def _refuse_other_settings(self) -> None:
        """The folder's name holds a hash of the settings, unless ``run_name`` was given."""
        differing = differences(read_config(self.folder, self.config.plugins), self.config, SCHEMA)
        if differing:
            raise ConfigError(
                [
                    f"{self.folder.path} holds a run of other settings than {' '.join(differing)}; choose another "
                    "run_name, or resume=never to start afresh"
                ]
            )

    def _cut_back(self, metric_log: MetricLog) -> None:
        logged = self.trainer.iteration - bool(self._unlogged)
        last = metric_log.cut_back(logged)
        if last + self.config.log_interval <= logged:
            reason = f"holds nothing after iteration {last}, and the run goes on from {logged}"
            say(f"warning: {self.folder.metrics} {reason}: what was logged between is lost", is_error=True)

    def _warm_start(self, path: str) -> None:
        try:
            source = self._load(path)
            self._started_from = ancestors_of(source.folder)
            refuse_trained_on(self.system.family, self._started_from)
            self.system.load_weights(source.system.weights(source.iteration, source.env_steps))
        except Refusal as error:
            raise ConfigError([f"init_from={path}: {error}"]) from error
        say(f"initial weights from {path}, iteration {source.iteration}; all optimisers are fresh")

    def _load(self, path: str | Path) -> LoadedRun:
        """Another run, on this one's device, where it names the same code or none."""
        return load_run(
            path,
            device=str(self.system.device),
            factory=factory_of(self.config),
            plugins=self.config.plugins,
            n_workers=None,
        )

    def _loop(self, metric_log: MetricLog, stop: StopSignal) -> None:
        config, trainer = self.config, self.trainer
        steps = self.system.steps_per_iteration
        with Progress(config.n_iters, steps, done=trainer.iteration) as progress:
            while self._unlogged or trainer.iteration < config.n_iters:
                stop.check()
                metrics, self._unlogged = self._unlogged or trainer.iterate(), {}
                is_last = trainer.iteration == config.n_iters
                is_best, result, evaluated = False, None, Metrics()
                if is_last or (config.eval_interval and trainer.iteration % config.eval_interval == 0):
                    self._unlogged = metrics
                    with stop.at_once():
                        result = self._assess(self.system, trainer.env_steps, "train", "selection")
                    scores = evaluation_metrics(result)
                    self._unlogged, evaluated = {}, {**scores}
                    is_best = trainer.note_evaluation(scores)
                if trainer.iteration % config.log_interval == 0 or evaluated or is_last:
                    metric_log.log(trainer.env_steps, trainer.iteration, metrics | evaluated)
                if trainer.iteration % config.checkpoint_interval == 0 or is_last or is_best:
                    self._save(best=is_best)
                progress.update(trainer.iteration, float(metrics["train/episode_return"]))
                self._call_back({**metrics, **evaluated}, result)
        stop.check()

    def _call_back(self, metrics: Metrics, evaluation: AdaptationResult | None) -> None:
        if not self.callbacks:
            return  # the metrics may be on a GPU
        values = {name: float(value) for name, value in metrics.items()}
        trainer, path = self.trainer, self.folder.path
        event = TrainingEvent(
            path, trainer.iteration, self.config.n_iters, trainer.env_steps, trainer.total_env_steps, values
        )
        for callback in self.callbacks:
            if evaluation is not None:
                callback.on_evaluation(event, evaluation)
            callback.on_iteration(event)

    def _save(self, best: bool = False) -> None:
        unlogged = {name: float(value) for name, value in self._unlogged.items()}
        state = self.trainer.state_dict()
        state["training"] |= {"unlogged": unlogged, "n_threads": torch.get_num_threads()}
        state["training"] |= {"selected_by": self._selected_by}
        trials = self.trainer.trials_since(self.checkpoints.n_trials_saved)
        oldest = self.trainer.oldest_trial
        self.checkpoints.save(state, self.trainer.iteration, shard=trials, oldest_trial=oldest, best=best)

    @property
    def _selected_by(self) -> list[int | str]:
        """What evaluations play that the best checkpoint is chosen by."""
        return [self.config.eval_trials, self.config.eval_episodes, self.config.eval_actions]

    def _assess(self, system: System, env_steps: int, split: str, purpose: str = "report") -> AdaptationResult:
        config = self.config
        return assess(
            system,
            env_steps,
            split,
            n_episodes=config.eval_episodes,
            n_trials=config.eval_trials,
            actions=config.eval_actions,
            bad_batch=self.folder.bad_batch,
            purpose=purpose,
        )

    def _finish(self, references: Mapping[str, Path], stop: StopSignal) -> bool:
        """Evaluate on every split beside the references; print tables and where the pictures are.

        Returns whether results were lost, as they could not be written.
        """
        runs = {line: self._load(path) for line, path in references.items()}
        is_lost = False
        for split in self.system.family.splits:
            with stop.at_once():
                result = self._assess(self.system, self.trainer.env_steps, split)
                beside = {line: [self._assess(run.system, run.env_steps, split)] for line, run in runs.items()}
            self.evaluations[split] = result
            comparison = compare_runs(self.config.algo, [result], beside)
            report = publish(self.folder, self.system, result, comparison)
            say("\n" + report.text)
            is_lost |= not report.is_written
        stop.check()
        say(f"run folder: {self.folder.path}")
        return is_lost

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
        say(f"the former run was set aside as {aside}")
