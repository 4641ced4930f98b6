"""A plan of runs: the run asked for and, where it is to be compared, its reference runs, each in a folder of its own.

Reference runs are shared: runs of several recipes have the same line ``none``. Whoever comes first trains it; others go
on with their own runs meanwhile, and wait for it before their tables.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch

from mg2l_kalei.config import ConfigError, RunConfig, run_dir
from mg2l_kalei.disk.output import say
from mg2l_kalei.disk.run_folder import RunFolder, RunFolderLocked
from mg2l_kalei.processes import Processes, ProcessLost, joined
from mg2l_kalei.training.callbacks import Callback, TrainingResult
from mg2l_kalei.training.following import follow
from mg2l_kalei.training.heap import keep_freed_memory
from mg2l_kalei.training.plugins import load_plugins
from mg2l_kalei.training.saved_run import LoadedRun, is_trained
from mg2l_kalei.training.stop_signal import STOPPED, StopSignal
from mg2l_kalei.training.system import SCHEMA
from mg2l_kalei.training.training_run import TrainingRun

REFERENCES = ("none", "oracle")  # lines of every comparison, called by their encoder
POLL_PERIOD = 2.0  # s, between looks whether another process is done with a reference run


def train(config: RunConfig, callbacks: Sequence[Callback] = (), *, folder: Path | None = None) -> TrainingResult:
    """Train to the end, or go on with the run that the same settings began.

    ``folder``: that of the run; None: where its settings place it. References stand beside it.

    Exit codes: 0: trained and evaluated; 1: and what the evaluation found could not be written. 143 (130, 129, 138):
    stopped by SIGTERM (SIGINT, SIGHUP, SIGUSR1) or, 143 too, by a callback, after saving, 142: by ``max_hours``; the
    same config goes on. Signals are answered in the main thread alone; in another they are left to its program.
    Raises ConfigError, before anything is written, where no such run can be; CheckpointError, RunFolderLocked or
    Refusal where the run's folder forbids it; NonFiniteError where training diverged.
    """
    load_plugins(config.plugins)
    if config.n_threads:
        torch.set_num_threads(config.n_threads)
    keep_freed_memory()
    deadline = None if config.max_hours is None else time.monotonic() + 3600 * config.max_hours  # of all together
    with joined(on_gpu=config.device != "cpu") as processes:
        # Before references, lest they be in vain.
        run = TrainingRun(config, callbacks, folder=folder, deadline=deadline, processes=processes)
        if processes.size > 1:
            return _train_together(run, callbacks, processes)
    place = config if folder is None else dataclasses.replace(config, results_dir=str(_results_of(folder)))
    lines = reference_configs(place) if config.references else {}
    n_steps = run.trainer.total_env_steps  # as many for all, whatever a trial is and whoever explores
    references = {line: dataclasses.replace(reference, total_env_steps=n_steps) for line, reference in lines.items()}
    result = _train(run, references)
    for callback in callbacks:
        callback.on_end(result)
    return result


def _train_together(run: TrainingRun, callbacks: Sequence[Callback], processes: Processes) -> TrainingResult:
    """The first process leads, and the others follow, until it tells them the end."""
    config = run.config
    if config.references:
        raise ConfigError(["references=true with several processes: train them as runs of their own"])
    if config.gpu_id is not None or ":" in config.device:
        one = f"device={config.device} gpu_id={config.gpu_id}"
        raise ConfigError([f"{one} with several processes: each takes a GPU of its own, expected device=cuda alone"])
    processes.any(False)  # all have looked at the folder before the first writes it
    if processes.rank:
        return run.result(follow(run.trainer, run.checkpoints))
    result = run.go()  # where it raises, others may be waiting for gradients: they notice that this one has ended
    with suppress(ProcessLost):
        processes.tell("end", result.exit_code)
    for callback in callbacks:
        callback.on_end(result)
    return result


def _train(run: TrainingRun, references: Mapping[str, RunConfig]) -> TrainingResult:
    awaited, is_lost = {}, False
    for line, reference in references.items():
        say(f"reference line {line}:")
        try:
            of_line = TrainingRun(reference, deadline=run.deadline).go()
        except RunFolderLocked as locked:
            awaited[line] = reference
            say(f"{locked}; its table is made when that is done")
            continue
        if of_line.exit_code >= STOPPED:
            return run.result(of_line.exit_code, of_line.stopped_by)
        is_lost |= bool(of_line.exit_code)  # trained, but what it has to show could not be written

    def finished(stop: StopSignal) -> dict[str, Path]:
        nonlocal is_lost
        for reference in awaited.values():
            is_lost |= bool(_await(reference, stop, run.deadline))
        return {line: run_dir(reference) for line, reference in references.items()}

    result = run.go(finished)
    return result._replace(exit_code=result.exit_code or int(is_lost))


def _await(config: RunConfig, stop: StopSignal, deadline: float | None) -> int:
    """Until another process has trained a run, which is then finished here if it was left: the exit code of that.

    Trained is enough: that process may still hold the run's lock, waiting for this one's run as its own reference.
    """
    code = None
    while code is None:
        if is_trained(config):
            return 0
        try:
            with RunFolder(run_dir(config)).lock():
                pass
            code = TrainingRun(config, deadline=deadline).go().exit_code  # it may have been left unfinished
        except RunFolderLocked:
            with stop.at_once():
                time.sleep(POLL_PERIOD)
    if code >= STOPPED:
        stop.received = code - STOPPED
        stop.check()
    return code


def reference_configs(config: RunConfig) -> dict[str, RunConfig]:
    """The same run without task inference, and with the oracle: full sharing, all other settings the same.

    Memory that lasts for the trial infers the task too: references have none, and returns that end with the episode.
    They are filed under what they are: by the learner, and the encoder if it is one.
    """
    network, learner = config.network, config.learner
    if network.memory == "trial":
        network = dataclasses.replace(network, memory="none", inputs=())
    if hasattr(learner, "horizon"):
        learner = dataclasses.replace(learner, horizon="episode")
    lines = {}
    for encoder in REFERENCES:
        kinds = {**config.kinds, "encoder": encoder, "sharing": "full"}
        axes = {axis: SCHEMA.axes[axis][kinds[axis]][1] for axis in ("encoder", "sharing")}
        lines[encoder] = dataclasses.replace(
            config,
            algo=_filed_under(kinds["learner"], encoder),
            kinds=kinds,
            network=network,
            learner=learner,
            references=False,
            resume="auto",  # they are others' too
            run_name=None,
            init_from=None,
            **axes,
        )
    return lines


def _filed_under(learner: str, encoder: str) -> str:
    """The recipe ``mappo`` is the line none of its learner, ``oracle`` the other one; so with every learner."""
    if encoder == "none":
        return learner
    return encoder if learner == "mappo" else f"{encoder}-{learner}"


def reference_folders(run: LoadedRun) -> dict[str, Path]:
    """Folders of the run's reference runs, by line: those that there are, in the results folder that it stands in."""
    configs = reference_configs(dataclasses.replace(run.config, results_dir=str(_results_of(run.folder.path))))
    folders = {line: run_dir(config) for line, config in configs.items()}
    return {line: path for line, path in folders.items() if RunFolder(path).config.is_file()}


def _results_of(folder: Path) -> Path:
    """The results folder that the folder of a run stands in."""
    return (folder / "../../..").resolve()
