"""What runs stored: settings, raw results of evaluations, logged metrics, films. Nothing is built and nothing played.

A run is a folder of ``train.py``, or files as they are published: ``NAME-sSEED.json`` or ``NAME-sSEED-SPLIT.json``,
which may be compressed (``.gz``), beside ``NAME.yaml``.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from envs.core import Refusal
from mg2l_kalei.config.run_config import Schema, flat, identifying
from mg2l_kalei.config.settings import to_text
from mg2l_kalei.disk.durable import read_bounded
from mg2l_kalei.disk.metric_log import read_metrics
from mg2l_kalei.disk.output import say
from mg2l_kalei.disk.run_folder import MAX_TASKS_SIZE, RunFolder
from mg2l_kalei.evaluation.results import AdaptationResult, from_json

MAX_SETTINGS, MAX_RESULT = 1 << 20, 1 << 28  # bytes of a file that is read
SET_ASIDE = re.compile(r".+\.old\d+")  # what ``resume=never`` names the folder that was in its place
PUBLISHED = re.compile(r"(?P<name>.+)-s\d+(-(train|test|ood))?\.json(\.gz)?")
FILMS = (".gif", ".webm", ".mp4")


class StoredRun(NamedTuple):
    """One trained run."""

    path: Path  # its folder; of published files, the first
    settings_file: Path
    settings: dict[str, Any]  # by dotted key, without those that merely extend or watch a run
    made_by: str  # version of the family and of its simulator; "" where it is not written down
    results: tuple[AdaptationResult, ...]  # one of each split
    watched: tuple[AdaptationResult, ...]  # one of each split and team that its encoder looked on
    metrics: tuple[dict[str, Any], ...]  # of each evaluation during training: "env_steps", and "evaluation/..."
    films: tuple[Path, ...]

    @property
    def seed(self) -> int:
        return self.results[0].seed


def find_runs(paths: Sequence[str], schema: Schema) -> list[StoredRun]:
    """Runs with an evaluation, in the order of ``paths``: folders of runs, folders that hold such, published files.

    Raises Refusal where a path holds no evaluation at all, or a file cannot be read as one.
    """
    found: dict[Path, StoredRun] = {}
    files = [path for path in map(Path, paths) if path.is_file()]
    for path in [path for path in map(Path, paths) if path not in files]:
        runs = {run.path.resolve(): run for run in _runs_in(path, schema)}
        if not runs:
            raise Refusal(f"{path} holds no evaluated run (evaluation/*.json), nor published results (NAME-sSEED.json)")
        found = {**found, **runs}
    return [*{**found, **{run.path.resolve(): run for run in _published(files, schema)}}.values()]


def _runs_in(path: Path, schema: Schema) -> Iterator[StoredRun]:
    folders = sorted(config.parent for config in path.rglob("config.yaml") if (config.parent / "evaluation").is_dir())
    for folder in folders:
        if any(map(SET_ASIDE.fullmatch, folder.relative_to(path).parts)):
            continue
        run = _run_in(RunFolder(folder), schema)
        if run is not None:
            yield run
    published = sorted(file for file in path.glob("*.json*") if PUBLISHED.fullmatch(file.name))
    described = [file for file in published if _settings_file(file).is_file()]
    if described and (lacking := {_settings_file(file).name for file in published if file not in described}):
        say(f"{path}: {len(lacking)} lines without settings are left out; the first lacks {min(lacking)}")
    yield from _published(described or published, schema)


def _run_in(folder: RunFolder, schema: Schema) -> StoredRun | None:
    """The run in a folder; None: it was not evaluated."""
    settings = identifying(_content(folder.config), schema)
    results = [_result(path) for path in sorted(folder.evaluation.glob("*.json"))]
    tasks = _content_of_tasks(folder.tasks)
    wanted = tasks.get("fingerprint")  # others are of other tasks of the same family
    own = [result for result in results if result.family.split(" (")[0] == settings.get("env.kind")]
    own = [result for result in own if wanted in (None, result.fingerprint)]
    played, watched = ([result for result in own if result.is_looking_on == is_so] for is_so in (False, True))
    if not played:
        return None
    places = (folder.path.glob("*"), folder.figures.glob("*"))
    files = sorted(file for place in places for file in place if file.suffix in FILMS)
    best, seen = (_one_of_each_split(results, folder.config) for results in (played, watched))
    metrics = tuple(map(_evaluated, read_metrics(folder.metrics, holding='"evaluation/')))
    return StoredRun(folder.path, folder.config, settings, _made_by(tasks), best, seen, metrics, tuple(files))


def _evaluated(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key == "env_steps" or key.startswith("evaluation/")}


def _one_of_each_split(results: Sequence[AdaptationResult], config: Path) -> tuple[AdaptationResult, ...]:
    """Of the longest trained: the evaluation that the run's settings ask for, else the one with the most episodes.

    One of each split, and of each team that was watched.
    """
    settings = flat(_content(config))
    asked = (settings.get("eval_trials"), settings.get("eval_episodes"))
    chosen: dict[tuple[str, str], tuple[Any, AdaptationResult]] = {}
    for result in results:
        as_asked = (result.returns.shape[1:] == asked, result.actions == settings.get("eval_actions"))
        worth = (result.env_steps, as_asked, result.returns.size)
        place = (result.split, result.actions if result.is_looking_on else "")
        if place not in chosen or worth > chosen[place][0]:
            chosen[place] = (worth, result)
    return tuple(result for _, result in chosen.values())


def _published(paths: Sequence[Path], schema: Schema) -> Iterator[StoredRun]:
    """Files of the same settings and seed are one run's."""
    results: dict[tuple[Path, int], list[tuple[Path, AdaptationResult]]] = defaultdict(list)
    for path in paths:
        settings_file = _settings_file(path)
        result = _result(path)
        of_run = results[settings_file, result.seed]
        if result.is_looking_on:
            raise Refusal(f"{path}: another team's play, that an encoder looked on: expected in its run's folder alone")
        if again := [other for other, of_split in of_run if of_split.split == result.split]:
            raise Refusal(f"{path} and {again[0]} are both of seed {result.seed} and split {result.split}")
        of_run.append((path, result))
    for (settings_file, _), of_run in results.items():
        settings = identifying(_content(settings_file), schema)
        yield StoredRun(of_run[0][0], settings_file, settings, "", tuple(result for _, result in of_run), (), (), ())


def _settings_file(path: Path) -> Path:
    """Of published results."""
    match = PUBLISHED.fullmatch(path.name)
    if match is None:
        raise Refusal(f"{path} is not called NAME-sSEED.json, nor NAME-sSEED-SPLIT.json, which may end in .gz")
    return path.with_name(f"{match['name']}.yaml")


def _content(path: Path) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(read_bounded(path, MAX_SETTINGS), loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise Refusal(f"{path}: settings cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise Refusal(f"{path}: expected a mapping of settings")
    return content


def _result(path: Path) -> AdaptationResult:
    try:
        content = read_bounded(path, MAX_RESULT)
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
        return from_json(text, with_steps=False)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise Refusal(f"{path}: no raw results of an evaluation: {reason}") from error


def _content_of_tasks(path: Path) -> dict[str, Any]:
    """What ``tasks.json`` holds; nothing where it cannot be read."""
    try:
        content = json.loads(read_bounded(path, MAX_TASKS_SIZE))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _made_by(tasks: dict[str, Any]) -> str:
    """Version of the family, and what else its tasks depend on, the simulator first of all."""
    made_by = tasks.get("made_by", {})
    if not tasks or not isinstance(made_by, dict):
        return ""
    return " ".join([f"version={tasks.get('version')}", *(f"{k}={to_text(v)}" for k, v in made_by.items())])
