"""The configuration of one run, what it is called, and how it is written down."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from omegaconf import OmegaConf

from envs.settings import setting
from mg2l_kalei.config.files import LATE_AXES
from mg2l_kalei.config.layers import dotted
from mg2l_kalei.config.settings import Rule, rules, to_text
from mg2l_kalei.disk.sinks import SINKS

AXES = ("env", "encoder", "sharing", "learner", "world_model")
GROUPS = ("network", "context", "replay")  # settings without kinds
ACTIONS = ("mode", "sampled")
PRECISIONS = ("fp32", "tf32", "bf16")
HASHED_ONCE = {"eval_episodes": 3, "eval_trials": 32}  # extend a run now, but are in the hash: so names stay


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides a run. Never written after it is loaded."""

    expt: str
    algo: str
    kinds: Mapping[str, str]  # axis -> chosen kind; of the env axis, the family's name
    env: Any  # the frozen config of the chosen kind; so are the next four
    encoder: Any
    sharing: Any
    learner: Any
    world_model: Any = None
    network: Any
    context: Any
    replay: Any

    seed: int = setting(0, "seed of everything random", low=0)
    n_iters: int = setting(500, "training iterations, each one rollout and its updates", low=1, extends=True)
    total_env_steps: int | None = setting(
        None,
        "instead of n_iters: the least number of iterations that makes so many environment steps",
        low=1,
        high=10**15,
        extends=True,
    )
    max_hours: float | None = setting(
        None, "hours after which a start saves and exits, as at a signal; null: no limit", above=0, extends=True
    )
    n_rows: int = setting(128, "environment rows, hence trials per rollout", low=1, high=10_000_000)
    trial_steps: int = setting(
        0, "environment steps of a trial; 0: an episode, or two where beliefs are read as one begins", low=0
    )
    eval_interval: int = setting(50, "iterations between evaluations; 0: only at the end", low=0, extends=True)
    eval_episodes: int = setting(
        3, "episodes of an evaluation trial, adapting from one to the next", low=1, extends=True
    )
    eval_trials: int = setting(32, "evaluation trials per task", low=1, extends=True)
    eval_actions: str = setting(
        "mode",
        "played in evaluations and films: the policy's mode, or sampled from it (off-policy learners: the mode)",
        choices=ACTIONS,
        extends=True,
    )
    checkpoint_interval: int = setting(10, "iterations between checkpoints", low=1, extends=True)
    keep_checkpoints: int = setting(3, "latest checkpoints that are kept", low=1, extends=True)
    log_interval: int = setting(1, "iterations between log lines", low=1, extends=True)
    sinks: tuple[str, ...] = setting(
        ("tensorboard",), "where metrics go beside metrics.jsonl; []: nowhere", choices=tuple(SINKS), extends=True
    )
    device: str = setting("auto", "auto, cpu, cuda or cuda:N; auto: a GPU if there is one")
    gpu_id: int | None = setting(None, "number of the GPU to use", low=0, extends=True)
    precision: str = setting(
        "fp32",
        "of matrix products: fp32; tf32: faster on GPUs that have it; bf16: those of the learner's updates in bfloat16",
        choices=PRECISIONS,
        is_late=True,
    )
    n_threads: int = setting(
        0, "CPU threads of torch, and of MuJoCo; 0: torch's own choice", low=0, high=1024, extends=True
    )
    results_dir: str = setting("results", "folder that run folders are put under", extends=True)
    resume: Literal["auto", "never"] = setting("auto", "go on from the run's last checkpoint, or not", extends=True)
    init_from: str | None = setting(None, "folder of a run whose final weights training starts from")
    references: bool = setting(False, "also train the none and oracle runs, and compare with them", extends=True)
    plugins: tuple[str, ...] = setting(
        (), "modules that register kinds and recipes of their own; code, named on the command line alone", extends=True
    )
    run_name: str | None = setting(None, "name of the run's folder; null: expt, seed and a hash", extends=True)


class Schema(NamedTuple):
    """What there is to choose from and to set."""

    axes: Mapping[str, Mapping[str, tuple[type | None, Any]]]  # axis -> kind -> (class, default config)
    groups: Mapping[str, Any]  # settings without kinds: name -> default config
    checks: Sequence[Callable[[RunConfig], Iterable[str]]] = ()  # impossible combinations, a line each
    folders: Sequence[Path] = ()  # of YAML files in algo, env and expt, beside the program's own

    def sections(self) -> dict[str, dict[str, dict[str, Rule]]]:
        """Section -> kind -> setting -> rule. The run is section ``""``; a section without kinds has kind ``""``."""
        axes = {axis: {kind: rules(entry[1]) for kind, entry in kinds.items()} for axis, kinds in self.axes.items()}
        groups = {name: {"": rules(default)} for name, default in self.groups.items()}
        return {"": {"": rules(RunConfig)}, **axes, **groups}


def to_dict(config: RunConfig) -> dict[str, Any]:
    """All of a config in plain values: tuples as lists, each axis a dict that starts with its ``kind``."""
    axes = [axis for axis in AXES if axis in config.kinds]
    sections: dict[str, Any] = {axis: {"kind": config.kinds[axis], **_plain(getattr(config, axis))} for axis in axes}
    sections |= {group: _plain(getattr(config, group)) for group in GROUPS}
    return {"expt": config.expt, "algo": config.algo, **_plain(config), **sections}


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``to_dict``, or some of them, by dotted key."""
    sections = {key: value if isinstance(value, dict) else {"": value} for key, value in settings.items()}
    return {dotted(key, name) if name else key: v for key, inner in sections.items() for name, v in inner.items()}


def identifying(stored: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """Of a stored ``to_dict``, by dotted key, what its seeds have in common and makes it this run and no other.

    Late axes and settings that an earlier release did not store yet are there with their defaults.
    """
    kept = {dotted(axis, "kind"): kind for axis, kind in LATE_AXES.items()} | flat(stored)
    kept.pop("seed", None)
    sections: dict[str, Any] = {"": RunConfig, **schema.groups}
    for axis, kinds in schema.axes.items():
        _, sections[axis] = kinds.get(str(kept.get(dotted(axis, "kind"))), (None, None))
    for section, config in sections.items():
        if config is None:  # a kind that is not here
            continue
        for name, rule in rules(config).items():
            if rule.extends:
                kept.pop(dotted(section, name) if section else name, None)
        for field in dataclasses.fields(config):
            if field.metadata.get("is_late"):
                default = list(field.default) if isinstance(field.default, tuple) else field.default
                kept.setdefault(dotted(section, field.name) if section else field.name, default)
    return kept


def to_yaml(config: RunConfig) -> str:
    """The text of a run folder's ``config.yaml``."""
    return OmegaConf.to_yaml(OmegaConf.create(to_dict(config)))


def run_name(config: RunConfig) -> str:
    """``<expt>-s<seed>-<hash>``: the same for the same settings, whatever merely extends or watches the run.

    Before the hash, what is observed, where the family has several ``regime``s that must not be compared.
    """
    if config.run_name is not None:
        return config.run_name
    return _hashed_name(config, HASHED_ONCE)


def _hashed_name(config: RunConfig, once: Mapping[str, Any]) -> str:
    absent = {axis for axis, kind in LATE_AXES.items() if config.kinds.get(axis) == kind}
    left_out = _late(config) | absent
    sections = {key: value for key, value in _deciding_sections(config).items() if key not in left_out}
    for section in sections.keys() & {*AXES, *GROUPS}:
        late = _late(getattr(config, section))
        sections[section] = {key: value for key, value in sections[section].items() if key not in late}
    digest = hashlib.sha256(json.dumps({**sections, **once}, sort_keys=True).encode()).hexdigest()
    regime = getattr(config.env, "regime", "")
    return "-".join(part for part in (config.expt, f"s{config.seed}", regime, digest[:8]) if part)


def _late(config: Any) -> set[str]:
    """Settings at their defaults that there were none of when runs were first named: so names stay."""
    fields = [field for field in dataclasses.fields(config) if field.metadata.get("is_late")]
    return {field.name for field in fields if getattr(config, field.name) == field.default}


def differences(was: RunConfig, now: RunConfig, schema: Schema) -> list[str]:
    """Settings that make ``now`` another run than ``was``, as one would write them: ``learner.gamma=0.9``.

    Of another kind on an axis, those that are not usual for it.
    """
    before, after = deciding_settings(was), deciding_settings(now)
    for axis in AXES:
        if axis in now.kinds and was.kinds.get(axis) != now.kinds[axis]:
            before |= flat({axis: _plain(schema.axes[axis][now.kinds[axis]][1])})
    return [f"{key}={to_text(value)}" for key, value in after.items() if value != before.get(key)]


def deciding_settings(config: RunConfig) -> dict[str, Any]:
    """What makes it this run and no other, by dotted key, in plain values."""
    return flat(_deciding_sections(config))


def _deciding_sections(config: RunConfig) -> dict[str, Any]:
    """``to_dict`` without the settings that merely extend or watch a run."""
    watching = {name for name, rule in rules(RunConfig).items() if rule.extends}
    settings = {key: value for key, value in to_dict(config).items() if key not in watching}
    for section in settings.keys() & {*AXES, *GROUPS}:
        extending = {name for name, rule in rules(getattr(config, section)).items() if rule.extends}
        settings[section] = {name: value for name, value in settings[section].items() if name not in extending}
    return settings


def run_dir(config: RunConfig) -> Path:
    """Where the run keeps everything: ``<results_dir>/<env>/<algo>/<run name>``.

    A run that stands there under the name that an earlier release gave it, with what ``HASHED_ONCE``, keeps that.
    """
    recipe = Path(config.results_dir) / config.kinds["env"] / config.algo
    path = recipe / run_name(config)
    if config.run_name is None and not (path / "config.yaml").is_file():
        former = recipe / _hashed_name(config, {name: getattr(config, name) for name in HASHED_ONCE})
        if (former / "config.yaml").is_file():
            return former
    return path


def _plain(config: Any) -> dict[str, Any]:
    """Settings of one config dataclass, ready for JSON and YAML."""
    return {
        name: list(rule.default) if isinstance(rule.default, tuple) else rule.default
        for name, rule in rules(config).items()
    }
