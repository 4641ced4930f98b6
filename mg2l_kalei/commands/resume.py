"""``python -m mg2l_kalei resume``: a run goes on from its folder alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from envs.core import setting
from mg2l_kalei.config import ConfigError, RunConfig, from_dict, to_dict
from mg2l_kalei.config.options import only_run, read_options
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.training.plan import train
from mg2l_kalei.training.saved_run import read_config, refuse_unconfirmed_code
from mg2l_kalei.training.system import SCHEMA


def _again(name: str) -> Any:
    """The setting of a run by this name; null: as the run has it."""
    (entry,) = (entry for entry in dataclasses.fields(RunConfig) if entry.name == name)
    return dataclasses.field(default=None, metadata=entry.metadata)


@dataclasses.dataclass(frozen=True)
class ResumeOptions:
    """What extends a run or watches it. null: as the run has it; of ``max_hours``, which is each start's own, none."""

    n_iters: int | None = _again("n_iters")
    total_env_steps: int | None = _again("total_env_steps")
    max_hours: float | None = _again("max_hours")
    eval_interval: int | None = _again("eval_interval")
    eval_episodes: int | None = _again("eval_episodes")
    eval_trials: int | None = _again("eval_trials")
    eval_actions: str | None = _again("eval_actions")
    checkpoint_interval: int | None = _again("checkpoint_interval")
    keep_checkpoints: int | None = _again("keep_checkpoints")
    log_interval: int | None = _again("log_interval")
    sinks: tuple[str, ...] | None = _again("sinks")
    references: bool | None = _again("references")
    n_threads: int | None = _again("n_threads")
    gpu_id: int | None = _again("gpu_id")
    factory: str | None = setting(None, "the run's env.factory, if it names one: it is run only if it is named here")
    plugins: tuple[str, ...] = setting((), "the run's plugins, if it names some: none is run that is not named here")


def resume(words: Sequence[str]) -> int:
    """Go on with a run until it is done or stopped; exit codes as of ``train.py``."""
    paths, options = read_options(words, ResumeOptions())
    path = only_run("resume", paths)
    if options.n_iters is not None and options.total_env_steps is not None:
        reason = "both say how long a run is, expected one of them"
        raise ConfigError(
            [f"command line: n_iters={options.n_iters} total_env_steps={options.total_env_steps}: {reason}"]
        )
    folder = RunFolder(path)
    config = read_config(folder, options.plugins)
    refuse_unconfirmed_code(folder, config, options.factory)
    return train(_extended(config, options), folder=folder.path).exit_code


def _extended(config: RunConfig, options: ResumeOptions) -> RunConfig:
    """The run's config with the options that were given. It goes on, even if it was begun with ``resume=never``."""
    given: dict[str, Any] = {name: value for name, value in vars(options).items() if value is not None}
    for confirmed in ("factory", "plugins"):
        given.pop(confirmed, None)
    extended = dataclasses.replace(config, **{"max_hours": None, **given, "resume": "auto"})
    return from_dict(to_dict(extended), SCHEMA)  # which refuses what cannot be together
