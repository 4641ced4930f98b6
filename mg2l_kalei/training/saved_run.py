"""Runs on disk: nothing beyond the folder is needed to evaluate, render or act."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from envs.core import EnvBatch, Refusal, TaskFamily, one_line
from mg2l_kalei.acting.collector import Team
from mg2l_kalei.config import ConfigError, RunConfig, deciding_settings, from_dict, read_yaml, run_dir
from mg2l_kalei.config.settings import did_you_mean, near, rules, to_text
from mg2l_kalei.disk.checkpoint import CheckpointError, Checkpoints
from mg2l_kalei.disk.durable import read_bounded
from mg2l_kalei.disk.metric_log import read_metrics
from mg2l_kalei.disk.run_folder import MAX_TASKS_SIZE, RunFolder
from mg2l_kalei.evaluation.results import raw_name
from mg2l_kalei.seeding import torch_generator
from mg2l_kalei.training.lineage import ancestors_of, refuse_trained_on
from mg2l_kalei.training.plugins import load_plugins, refuse_unconfirmed_plugins
from mg2l_kalei.training.system import SCHEMA, System, build
from mg2l_kalei.types import State


class NoSuchRun(Refusal, FileNotFoundError):
    """There is no run in the folder."""


class LoadedRun(NamedTuple):
    """A trained run, ready to act."""

    folder: RunFolder
    system: System
    env_steps: int  # that it was trained for
    iteration: int

    @property
    def config(self) -> RunConfig:
        return self.system.config

    @property
    def family(self) -> TaskFamily:
        return self.system.family

    def team(self, seed: int = 0) -> Team:
        """A team that acts and infers: ``begin`` a trial, then ``act`` and ``observe`` in turn."""
        generator = torch_generator(seed, "play", "acting", device=self.system.device)
        return Team(self.system.learner, self.system.encoder, generator)

    def play(self, task: Tensor, seed: int = 0) -> tuple[EnvBatch, Team]:
        """Environments with a row for each of task (B,) int64, and a team that has begun a trial in them."""
        device = self.system.device
        team = self.team(seed)
        team.begin(task.to(device))
        return self.family.make(len(task), device, torch_generator(seed, "play", "env", device=device)), team


def load_run(
    path: str | Path,
    *,
    best: bool = False,
    device: str = "cpu",
    factory: str | None = None,
    plugins: Sequence[str] = (),
    n_workers: int | None = 0,
) -> LoadedRun:
    """The run in folder ``path`` with the weights of its latest (or best) checkpoint.

    No code that the folder names is run, unless ``factory`` and ``plugins`` name the same. ``n_workers``: processes
    that play its environments, where it can have some; None: as many as in training, which a script may start under
    ``if __name__ == "__main__":`` alone. Raises FileNotFoundError where there is no run, CheckpointError where its
    checkpoints are missing or damaged, and Refusal where its settings are not legal or today's family gives other
    tasks or agents than those it was trained on.
    """
    folder = RunFolder(Path(path))
    config = read_config(folder, plugins)
    refuse_unconfirmed_code(folder, config, factory)
    if n_workers is not None and "n_workers" in rules(config.env):
        config = dataclasses.replace(config, env=dataclasses.replace(config.env, n_workers=n_workers))
    system = build(config, torch.device(device), agents_of(path))
    check_tasks(folder, system.family)
    refuse_trained_on(system.family, ancestors_of(folder)[1:])
    checkpoints = Checkpoints(folder.checkpoints, config.keep_checkpoints, identity(config, system.family))
    loaded = checkpoints.load_best(weights_only=True) if best else checkpoints.load_latest(weights_only=True)
    if loaded is None:
        missing = "checkpoint marked best: evaluations during training mark it" if best else "checkpoint"
        raise CheckpointError(f"{path} holds no {missing}")
    weights = loaded.state["weights"]
    with fitting(folder, loaded.step):
        system.load_weights(weights)
        iteration, env_steps = counts(weights)
    return LoadedRun(folder, system, env_steps, iteration)


def identity(config: RunConfig, family: TaskFamily) -> dict[str, Any]:
    """What tells a run from others, for its checkpoints to hold: one that was copied in is refused."""
    return {**deciding_settings(config), "tasks": family.fingerprint()}


@contextmanager
def fitting(folder: RunFolder, step: int) -> Iterator[None]:
    """In this block the state of a checkpoint is taken over: whatever is wrong with it is a CheckpointError."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        what = error if isinstance(error, (ValueError, RuntimeError)) else f"{type(error).__name__}: {error}"
        reason = f"checkpoint {step} does not fit {folder.config.name}, or not this version: {what}"
        raise CheckpointError(" ".join(f"{folder.path}: {reason}".split())) from error


def counts(weights: State) -> tuple[int, int]:
    """Iterations and environment steps that a checkpoint's weights were trained for. Raises KeyError, ValueError."""
    iteration, env_steps = weights["iteration"], weights["env_steps"]
    if any(type(count) is not int or count < 0 for count in (iteration, env_steps)):
        raise ValueError(f"iteration {iteration!r} and env_steps {env_steps!r} are counts")
    return iteration, env_steps


def read_config(folder: RunFolder, plugins: Sequence[str] = ()) -> RunConfig:
    """Of the run in ``folder``, whose plugins have to be among those named.

    Raises FileNotFoundError where there is none, ConfigError where it is not legal.
    """
    if not folder.config.is_file():
        missing = f"{folder.path} holds no run, which has a {folder.config.name}"
        raise NoSuchRun(missing + _nearest_run(folder.path))
    content = read_yaml(folder.config)
    refuse_unconfirmed_plugins(folder.path, content.get("plugins"), plugins)
    load_plugins(plugins)
    try:
        return from_dict(content, SCHEMA)
    except ConfigError as error:
        raise ConfigError([f"{folder.path}: {problem}" for problem in error.problems]) from error


def factory_of(config: RunConfig) -> str | None:
    """The code that a config names, to make its environments; None: its family is ours."""
    return next(iter(_code(config).values()), None)


def _code(config: RunConfig) -> dict[str, Any]:
    """The code that a config names, and what it is called with: settings by name."""
    return {name: rule.default for name, rule in rules(config.env).items() if rule.is_code}


def refuse_unconfirmed_code(folder: RunFolder, config: RunConfig, confirmed: str | None) -> None:
    """The folder may be a stranger's: code that it names is imported only where the user names it too."""
    named = factory_of(config)
    if named is None or named == confirmed:
        return
    if confirmed is None:
        called = [f"{key}={to_text(value)}" for key, value in _code(config).items() if value]
        reason = f"names code to run, {' '.join(called)}; if you trust it, add factory={named}"
    else:
        reason = f"names code to run, {named}, which is not factory={confirmed}"
    raise ConfigError([one_line(f"{folder.path} {reason}")])


def describe_tasks(family: TaskFamily) -> dict[str, object]:
    """What ``tasks.json`` holds: the family's fingerprint, all of its tasks, and the agents' names in their order."""
    return {
        "family": family.name,
        "version": family.version,
        **({"made_by": dict(family.made_by)} if family.made_by else {}),
        **({"agents": list(family.agents)} if family.agents else {}),
        "fingerprint": family.fingerprint(),
        "tasks": [{**task._asdict(), "params": dict(task.params)} for task in family.tasks],
    }


def check_tasks(folder: RunFolder, family: TaskFamily) -> None:
    """Raise Refusal if the tasks and agents that the run was trained on are not those of ``family``."""
    if not folder.tasks.is_file():
        raise Refusal(f"{folder.path} lacks its tasks ({folder.tasks.name}): the run is not whole")
    now = _plain(describe_tasks(family))
    try:
        trained_on = json.loads(read_bounded(folder.tasks, MAX_TASKS_SIZE))
        trained_on = {"agents": now.get("agents"), **trained_on}  # runs of before did not write them down
        differing = [name for name, value in now.items() if trained_on[name] != value]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refusal(f"{folder.tasks} is damaged ({type(error).__name__}: {error})") from error
    if differing == ["agents"]:
        names = f"{to_text(trained_on['agents'])}, {family.name} now has {to_text(family.agents)}"
        raise Refusal(f"{folder.path} was trained with other agents: {names}")
    if differing:
        raise Refusal(
            f"{folder.path} was trained on other tasks than those of {family.name} version {family.version}, "
            f"fingerprint {family.fingerprint()[:12]}: {folder.tasks.name} differs in {', '.join(differing)}"
        )


def is_trained(config: RunConfig) -> bool:
    """Whether the run of a config has been trained as long as that says, whoever may hold its folder now."""
    folder = RunFolder(run_dir(config))
    last = next(reversed(read_metrics(folder.metrics)), None)
    if last is None or max(Checkpoints(folder.checkpoints, 1).steps(), default=0) < last["iteration"]:
        return False
    if config.total_env_steps is not None:
        return bool(last["env_steps"] >= config.total_env_steps)
    return bool(last["iteration"] >= config.n_iters)


def is_evaluated(config: RunConfig) -> bool:
    """Whether a trained run has been evaluated on all splits since, as the config says."""
    folder, size = RunFolder(run_dir(config)), (config.eval_trials, config.eval_episodes)
    env_steps = read_metrics(folder.metrics)[-1]["env_steps"]
    try:
        tasks = json.loads(read_bounded(folder.tasks, MAX_TASKS_SIZE))["tasks"]
        names = {raw_name(task["split"], env_steps, size, config.eval_actions) for task in tasks}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False  # what is damaged is for training to say
    return all((folder.evaluation / name).is_file() for name in names)


def refuse_remains(folder: RunFolder, checkpoints: Checkpoints) -> None:
    """A run that has been trained is not begun again because its config is gone. Raises CheckpointError."""
    has_metrics = folder.metrics.is_file() and folder.metrics.stat().st_size > 0
    remains = [folder.checkpoints.name] * any(step > 0 for step in checkpoints.steps())
    remains += [folder.metrics.name] * has_metrics
    if remains:
        raise CheckpointError(
            f"{folder.path} has {' and '.join(remains)} but no {folder.config.name}; put it back, or start afresh with "
            "resume=never, which sets the folder aside"
        )


def agents_of(path: str | Path) -> tuple[str, ...]:
    """Names of the agents that the run in folder ``path`` was trained with, in their order; empty: none are written."""
    try:
        names = json.loads(read_bounded(RunFolder(Path(path)).tasks, MAX_TASKS_SIZE)).get("agents", ())
    except (OSError, ValueError, AttributeError, RecursionError):
        return ()  # what is missing or damaged is for ``check_tasks`` to say
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _plain(content: dict[str, object]) -> dict[str, object]:
    """As JSON gives it back: tuples become lists."""
    plain: dict[str, object] = json.loads(json.dumps(content))
    return plain


def _nearest_run(missing: Path) -> str:
    """The run folder beside ``missing`` whose name is most like it; or else the folder at the first wrong turn."""
    turn = missing
    while not turn.parent.is_dir():
        turn = turn.parent
    beside = [path for path in turn.parent.iterdir() if path.is_dir() and path != missing]
    runs = [path for path in beside if (path / "config.yaml").is_file()]
    places = {path.name: str(path) for path in runs or beside}
    return did_you_mean([places[name] for name in near(turn.name, places)])
