"""``python -m mg2l_kalei resume``: a run goes on from its folder alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from envs.core import setting
from mg2l_kalei.config import ConfigError, RunConfig
from mg2l_kalei.config.options import only_run, read_options
from mg2l_kalei.config.run_config import ACTIONS
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.training.plan import train
from mg2l_kalei.training.saved_run import read_config, refuse_unconfirmed_code


@dataclasses.dataclass(frozen=True)
class ResumeOptions:
    """What extends a run or watches it. null: as the run has it."""

    n_iters: int | None = setting(None, "iterations of the whole run; null: the run's", low=1)
    total_env_steps: int | None = setting(None, "instead of n_iters: environment steps of the whole run", low=1)
    max_hours: float | None = setting(None, "hours after which it saves and exits; null: the run's", above=0)
    eval_interval: int | None = setting(None, "iterations between evaluations; null: the run's", low=0)
    eval_episodes: int | None = setting(None, "episodes of an evaluation trial; null: the run's", low=1)
    eval_trials: int | None = setting(None, "evaluation trials per task; null: the run's", low=1)
    eval_actions: str | None = setting(None, "mode or sampled; null: the run's", choices=ACTIONS)
    checkpoint_interval: int | None = setting(None, "iterations between checkpoints; null: the run's", low=1)
    n_threads: int | None = setting(None, "CPU threads, 0: torch's own choice; null: the run's", low=0)
    gpu_id: int | None = setting(None, "number of the GPU to use; null: the run's", low=0)
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
    return dataclasses.replace(config, **{**given, "resume": "auto"})
