"""From the command line and the YAML files, or from a run's own ``config.yaml``, to a ``RunConfig``."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from mg2l_kalei.config.command_line import Assignment, parse
from mg2l_kalei.config.files import LATE_AXES, Choices, ConfigError, File, choice_key, choose, read_yaml
from mg2l_kalei.config.layers import COMMAND_LINE, RETIRED, Layers, Sections
from mg2l_kalei.config.run_config import RunConfig, Schema, flat, to_dict
from mg2l_kalei.config.settings import Rule, problem, read, to_text

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
GONE_SHOWN = 3  # settings of an earlier release that its refusal names
_FILE_NAME = re.compile(r"\w[\w.=-]*", re.ASCII)


class Resolved(NamedTuple):
    """A configuration, and who decided each part of it."""

    config: RunConfig
    sources: Mapping[str, str]  # dotted key -> "default", "config/algo/x.yaml" or "command line"


def load(argv: Sequence[str], schema: Schema, config_dir: Path) -> Resolved:
    """Resolve the words of a command line; flags such as ``--help`` are passed over, see ``request``.

    Raises ConfigError with everything that is wrong, in the order of the layers.
    """
    assignments, problems = parse(argv)
    given, overrides = _split(assignments, schema.axes, problems)
    stored = given.pop("config", None)
    if stored is None:
        choices = choose(given, schema.axes, (config_dir, *schema.folders))
    else:
        choices = _stored_choices(stored, given, schema)
    layers = _layers(schema.sections(), choices, overrides, but_of=stored)
    config = _build(schema, choices.names, layers)
    problems += choices.problems + layers.problems
    if problems or config is None:
        raise ConfigError(problems)
    sources = {f"{key}.kind" if key == "env" else key: source for key, source in choices.sources.items()}
    return Resolved(config, {**sources, **layers.sources})


def chosen_sections(argv: Sequence[str], sections: Sections, config_dir: Path) -> Sections | None:
    """The settings of the kinds that the words of a command line choose; the values that they come to are defaults.

    Whether they can be combined is not asked. None where something else is wrong, or code of others has a say: ``load``
    knows more.
    """
    axes = {name: kinds for name, kinds in sections.items() if "" not in kinds}
    assignments, problems = parse(argv)
    given, overrides = _split(assignments, axes, problems)
    if "config" in given:
        return None
    choices = choose(given, axes, (config_dir,))
    layers = _layers(sections, choices, overrides)
    is_sound = not (problems or choices.problems or layers.problems)
    return layers.chosen_sections() if is_sound and not layers.values["plugins"] else None


def _layers(sections: Sections, choices: Choices, overrides: Sequence[Assignment], but_of: str | None = None) -> Layers:
    """The settings of what was chosen; ``but_of``: the stored config whose files are not read again."""
    axes = [name for name, kinds in sections.items() if "" not in kinds]
    kinds = {axis: choices.names[choice_key(axis)] for axis in axes if choice_key(axis) in choices.names}
    layers = Layers(sections, kinds)
    for file in choices.files:
        layers.add_file(file)
    layers.add_command_line(overrides)
    layers.read_files(but_of=but_of)
    if layers.sources["n_iters"] == COMMAND_LINE:
        if layers.sources["total_env_steps"] == COMMAND_LINE:
            reason = "both say how long a run is, expected one of them"
            layers.problems.append(f"{COMMAND_LINE}: n_iters and total_env_steps: {reason}")
        layers.values["total_env_steps"] = None  # a file's is the weaker one
    return layers


def _stored_choices(path: str, given: Mapping[str, str], schema: Schema) -> Choices:
    """What the run of a ``config.yaml`` is made of, with the kinds that are given instead of its own."""
    content = to_dict(from_dict(read_yaml(Path(path)), schema))
    names = {name: content.pop(name) for name in ("expt", "algo")}
    names |= {choice_key(axis): content[axis]["kind"] for axis in schema.axes}
    choices = Choices(names, dict.fromkeys(names, path), [File(path, content)], [])
    for key, text in given.items():
        axis = key.removesuffix(".kind")
        try:
            if axis not in schema.axes:
                raise ValueError("the stored config has its own")
            names[key] = read(text, Rule(str, choices=tuple(schema.axes[axis])))
            choices.sources[key] = COMMAND_LINE
        except ValueError as error:
            choices.problems.append(problem(COMMAND_LINE, key, text, error))
    return choices


def from_dict(content: Mapping[str, Any], schema: Schema) -> RunConfig:
    """The config that ``to_dict`` wrote down; what it lacks is default. Raises ConfigError with everything wrong."""
    source = "config.yaml"
    wishes = {"expt": (content.get("expt"), Rule(str)), "algo": (content.get("algo"), Rule(str))}
    for axis, kinds_of_axis in schema.axes.items():
        block = content.get(axis)
        kind = block.get("kind") if isinstance(block, dict) else block
        kind = LATE_AXES.get(axis) if kind is None else kind
        wishes[f"{axis}.kind"] = kind, Rule(str, choices=tuple(kinds_of_axis))
    names, problems = {}, []
    for key, (value, rule) in wishes.items():
        try:
            names[key] = read(value, rule)
        except ValueError as error:
            problems.append(problem(source, key, value, error))
    kinds = {axis: names[f"{axis}.kind"] for axis in schema.axes if f"{axis}.kind" in names}
    layers = Layers(schema.sections(), kinds)
    if gone := _gone(source, content, known={*layers.sources, *wishes, *schema.axes, *RETIRED}):
        raise ConfigError([*problems, gone])
    layers.add_file(File(source, {key: value for key, value in content.items() if key not in ("expt", "algo")}))
    config = _build(schema, names, layers)
    problems += layers.problems
    if problems or config is None:
        raise ConfigError(problems)
    return config


def _gone(source: str, content: Mapping[str, Any], known: Container[str]) -> str:
    """A line for settings that there are no more: the program wrote this file, so it knew them once. Empty if none."""
    gone = [f"{key}={to_text(value)}" for key, value in flat(content).items() if key not in known]
    if not gone:
        return ""
    shown = ", ".join(gone[:GONE_SHOWN]) + (f" and {len(gone) - GONE_SHOWN} more" if gone[GONE_SHOWN:] else "")
    reason = "no setting any more: made by an earlier release; use that one to load it, or train the run again"
    return f"{source}: {shown}: {reason}"


def _split(
    assignments: Iterable[Assignment], axes: Iterable[str], problems: list[str]
) -> tuple[dict[str, str], list[Assignment]]:
    """What chooses files and kinds, by ``choice_key``, and the rest. ``encoder=none`` is short for its ``kind``."""
    names = {"expt": "expt", "algo": "algo", "config": "config"}
    for axis in axes:
        names |= {axis: choice_key(axis), f"{axis}.kind": choice_key(axis)}
    given: dict[str, str] = {}
    rest = []
    for assignment in assignments:
        if assignment.key not in names:
            rest.append(assignment)
            continue
        key, text = names[assignment.key], assignment.text
        if given.setdefault(key, text) != text:
            problems.append(problem(COMMAND_LINE, key, text, f"given before as {given[key]}"))
    return given, rest


def _build(schema: Schema, names: Mapping[str, str], layers: Layers) -> RunConfig | None:
    """The config, if all choices are made; what its own checks say is added to the problems."""
    kinds = layers.kinds
    if not {"expt", "algo"} <= names.keys() or len(kinds) < len(schema.axes):
        return None
    defaults = {**{axis: schema.axes[axis][kind][1] for axis, kind in kinds.items()}, **schema.groups}
    parts = {}
    for section, default in defaults.items():
        try:
            parts[section] = replace(default, **layers.section(section))
        except ValueError as error:
            layers.problems.append(f"{section}: {error}")
    if len(parts) < len(defaults):
        return None
    run = layers.section("")
    config = RunConfig(expt=names["expt"], algo=names["algo"], kinds=dict(kinds), **parts, **run)
    for check in (_impossible, *schema.checks):
        layers.problems.extend(check(config))
    return config


def _impossible(config: RunConfig) -> Iterator[str]:
    """What no rule of a single setting can refuse."""
    if not _DEVICE.fullmatch(config.device):
        yield f"device={config.device}: expected auto, cpu, cuda or cuda:N"
    if config.gpu_id is not None and config.device not in ("auto", "cuda"):
        yield f"gpu_id={config.gpu_id} with device={config.device}: expected device=cuda, or no gpu_id"
    for key, name in (("expt", config.expt), ("algo", config.algo), ("run_name", config.run_name)):
        if name is not None and not _FILE_NAME.fullmatch(name):
            yield f"{key}={name}: expected a file's name, of letters, digits and - _ . ="
