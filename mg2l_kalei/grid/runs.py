"""The runs of a grid: every combination of its axes, each a command line of ``train``, checked before any starts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from envs.core import Refusal
from mg2l_kalei.config import ConfigError, RunConfig, read_yaml, run_dir
from mg2l_kalei.config.command_line import parse
from mg2l_kalei.config.settings import comma_parts, nearest, to_text
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.training.plugins import resolve
from mg2l_kalei.training.saved_run import is_evaluated, is_trained, read_config

RANGE = re.compile(r"(\d+)\.\.(\d+)")  # 0..4 is 0, 1, 2, 3, 4
OPTIONS = ("expt", "algo", "env", "config")  # written as --key=value
MAX_RUNS = 100_000
SUITES = {  # families by what they are good for; core: certified to need task inference, see docs/results/families.md
    "core": (
        "mpe-hunting",
        "mpe-spread",
        "mpe-spread-large",
        "mpe-wind",
        "mujoco-ant-dir",
        "mujoco-cheetah-dir",
        "mujoco-cheetah-vel",
    )
}


class PlannedRun(NamedTuple):
    """One run of a grid."""

    words: tuple[str, ...]  # after ``train``
    config: RunConfig

    @property
    def folder(self) -> RunFolder:
        return RunFolder(run_dir(self.config))

    @property
    def log(self) -> Path:
        """What it prints: beside its folder, which it makes itself."""
        return self.folder.path.with_name(f"{self.folder.path.name}.log")

    @property
    def name(self) -> str:
        """As one says it: recipe, family and run name."""
        return f"{self.config.algo} {self.config.kinds['env']} {self.folder.path.name}"

    def is_finished(self) -> bool:
        """Whether it was trained to its end and evaluated then."""
        return self.folder.config.is_file() and is_trained(self.config) and is_evaluated(self.config)


def combinations(source: Sequence[str] | Path) -> list[tuple[str, ...]]:
    """Command lines of every combination, from ``key=value`` words or a YAML file.

    Values of an axis are separated by commas, or are a YAML list; ``0..4`` is a range. A setting that is a list itself
    is written in brackets: ``network.hidden=[64,64],[128,128]``. ``suite`` stands for the families of ``SUITES``, as it
    does where no family, experiment or run's settings are named: the core. Raises ConfigError.
    """
    axes = _with_families(_of_file(source) if isinstance(source, Path) else _of_words(source))
    if empty := [key for key, values in axes.items() if not all(values) or not values]:
        raise ConfigError([f"grid: {key} has an empty value, or none" for key in empty])
    n_runs = math.prod(map(len, axes.values()))
    if n_runs > MAX_RUNS:
        raise ConfigError([f"grid: {n_runs} runs, expected at most {MAX_RUNS}"])
    return [
        tuple(f"{'--' * (key in OPTIONS)}{key}={value}" for key, value in zip(axes, values, strict=True))
        for values in product(*axes.values())
    ]


def planned(lines: Sequence[Sequence[str]]) -> list[PlannedRun]:
    """The runs of command lines. Raises ConfigError with everything that is wrong with any of them."""
    runs: list[PlannedRun] = []
    problems: dict[str, None] = {}  # each once, in their order
    places: dict[Path, Sequence[str]] = {}
    for words in lines:
        try:
            run = PlannedRun(tuple(words), resolve(words).config)
            _refuse_start_from_nothing(run)
        except ConfigError as error:
            problems |= dict.fromkeys(error.problems)
            continue
        place = run.folder.path
        if place in places:
            problems[f"grid: {' '.join(words)} is the same run as {' '.join(places[place])}: {place}"] = None
        places[place] = words
        runs.append(run)
    if problems:
        raise ConfigError(list(problems))
    return runs


def _refuse_start_from_nothing(run: PlannedRun) -> None:
    """Raise ConfigError where the run is still to begin, from another that is not there or cannot be read."""
    source = run.config.init_from
    if source is None or run.folder.config.is_file():
        return
    try:
        read_config(RunFolder(Path(source)), run.config.plugins)
    except Refusal as error:
        raise ConfigError([f"init_from={source}: {error}"]) from error


def _with_families(axes: dict[str, list[str]]) -> dict[str, list[str]]:
    """Axes with the families of a suite in its place, and of the core where nothing else says which."""
    if "suite" not in axes:
        says_which = {"env", "env.kind", "config", "expt"} & axes.keys()
        return axes if says_which else {"env": list(SUITES["core"]), **axes}
    if {"env", "env.kind"} & axes.keys():
        raise ConfigError(["grid: suite and env both say which families, expected one of them"])
    families: dict[str, None] = {}
    for name in axes["suite"]:
        if name not in SUITES:
            raise ConfigError([f"grid: suite={name}: no such suite{nearest(name, SUITES)}"])
        families |= dict.fromkeys(SUITES[name])
    return {"env" if key == "suite" else key: list(families) if key == "suite" else axes[key] for key in axes}


def _of_words(words: Sequence[str]) -> dict[str, list[str]]:
    assignments, problems = parse(words)
    axes: dict[str, list[str]] = {}
    for key, text in assignments:
        if key in axes:
            problems.append(f"command line: {key} is given twice")
        axes[key] = [value for part in comma_parts(text) for value in _ranged(part.strip())]
    if problems:
        raise ConfigError(problems)
    return axes


def _of_file(path: Path) -> dict[str, list[str]]:
    return {key: list(_values(value)) for key, value in _leaves(read_yaml(path))}


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _values(value: Any) -> Iterator[str]:
    for item in value if isinstance(value, list) else [value]:
        yield from _ranged(item) if isinstance(item, str) else [_text(item)]


def _text(value: Any) -> str:
    """As it is written on a command line."""
    return f"[{','.join(map(_text, value))}]" if isinstance(value, list) else to_text(value)


def _ranged(text: str) -> list[str]:
    found = RANGE.fullmatch(text)
    if found is None:
        return [text]
    first, last = int(found[1]), int(found[2])
    if not 0 <= last - first < MAX_RUNS:
        raise ConfigError([f"grid: {text}: expected a range of 1 to {MAX_RUNS} numbers, the first the least"])
    return list(map(str, range(first, last + 1)))
