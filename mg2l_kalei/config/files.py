"""The YAML files of a run: which ones and which kinds are chosen, and by whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from envs.settings import Refusal
from mg2l_kalei.config.settings import Rule, nearest, problem, read
from mg2l_kalei.disk.durable import read_bounded

_PACKAGED, _CLONED = Path(__file__).resolve().parent, Path(__file__).resolve().parents[2] / "config"
CONFIG_DIR = _PACKAGED if (_PACKAGED / "algo").is_dir() else _CLONED  # of the project's own YAML files
MAX_SIZE = 1 << 20  # bytes of a YAML file that is read
MAX_DEPTH = 20  # of lists and mappings in each other
DEFAULTS = {"expt": "default", "algo": "mg2l_kalei", "env": "mpe-spread"}
LATE_AXES = {"world_model": "none"}  # axes that earlier releases lacked -> the kind that means nothing of the sort
Kinds = Mapping[str, Iterable[str]]  # axis -> the kinds there are


class ConfigError(Refusal):
    """A configuration that cannot run. ``problems`` says why, one line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(dict.fromkeys(problems))
        super().__init__("\n".join(self.problems))


class File(NamedTuple):
    """One layer of settings out of a file."""

    source: str
    content: dict[str, Any]
    speaks: bool = True  # False: overrides of another recipe, which are checked and not used
    is_read: bool = True  # False: there is no such file, or it could not be read


class Choices(NamedTuple):
    """What a run is made of."""

    names: dict[str, str]  # "expt", "algo", "env", "encoder.kind", ...; what was chosen wrongly is missing
    sources: dict[str, str]  # the same keys
    files: list[File]  # weakest first
    problems: list[str]


def read_yaml(path: Path) -> dict[str, Any]:
    """Content of a YAML file; interpolations stay text. Raises ConfigError if it cannot be read or is no mapping."""
    try:
        text = read_bounded(path, MAX_SIZE)
        _refuse_depth(text)
        content = OmegaConf.load(BytesIO(text))
    except (YAMLError, OmegaConfBaseException, OSError, ValueError) as error:
        raise ConfigError([f"{path}: not readable as YAML: {' '.join(str(error).split())}"]) from error
    if not isinstance(content, DictConfig):
        raise ConfigError([f"{path}: expected a mapping of settings"])
    plain = OmegaConf.to_container(content, resolve=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _refuse_depth(text: bytes) -> None:
    """Raises ValueError where lists and mappings are nested deeply: YAML's loader in C would crash the program."""
    depth = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")


def names_in(*folders: Path) -> tuple[str, ...]:
    """Names of the YAML files in folders, sorted."""
    return tuple(sorted(path.stem for folder in folders for path in folder.glob("*.yaml")))


def choice_key(axis: str) -> str:
    """The key that chooses the kind of an axis; a family's name is called ``env``, like the option."""
    return "env" if axis == "env" else f"{axis}.kind"


def choose(given: Mapping[str, str], kinds: Kinds, config_dirs: Sequence[Path]) -> Choices:
    """Settle expt, algo, env and every axis's kind; ``given`` are those of the command line, by ``choice_key``.

    ``algo`` may be the path of a recipe's file, whose name is then the recipe's. Files are looked for in
    ``config_dirs``, which each have folders ``algo``, ``env`` and ``expt``, or some of them.
    """
    chooser = _Chooser(given, config_dirs)
    recipes = chooser.recipes()
    chooser.pick("expt", chooser.names_of("expt"), ("default", DEFAULTS["expt"]))
    expt = chooser.file("expt")
    for key, valid in (("algo", recipes), ("env", tuple(kinds["env"]))):
        wish = expt.content.pop(key) if isinstance(expt.content.get(key), str) else None
        chooser.pick(key, valid, (expt.source, wish), ("default", DEFAULTS[key]))
    algo, env = chooser.file("algo"), chooser.file("env")
    for axis in kinds:
        if axis != "env":
            chooser.pick_kind(axis, tuple(kinds[axis]), algo)
    layers = [layer for file in (env, expt) for layer in chooser.by_recipe(file, recipes)]
    return Choices(chooser.names, chooser.sources, [algo, *layers], chooser.problems)


class _Chooser:
    """Choices made so far, and what was wrong with the others."""

    def __init__(self, given: Mapping[str, str], config_dirs: Sequence[Path]) -> None:
        self.given = dict(given)
        self.config_dirs = config_dirs
        self.own_recipe: Path | None = None  # a file that stands elsewhere
        self.names: dict[str, str] = {}
        self.sources: dict[str, str] = {}
        self.problems: list[str] = []

    def names_of(self, folder: str) -> tuple[str, ...]:
        """Names of the files that there are of a kind."""
        return names_in(*(config_dir / folder for config_dir in self.config_dirs))

    def recipes(self) -> tuple[str, ...]:
        """Names of the recipes that there are, and of the one that is given by its path."""
        names, given = self.names_of("algo"), self.given.get("algo", "")
        if not given.endswith(".yaml"):
            return names
        path = Path(given)
        self.given["algo"] = path.stem
        if path.stem in names and path.resolve() != self._path("algo", path.stem).resolve():
            reason = f"there is a recipe {path.stem} already: call the file otherwise"
            self.problems.append(problem("command line", "algo", given, reason))
        self.own_recipe = path
        return tuple(sorted({*names, path.stem}))

    def _path(self, folder: str, name: str) -> Path:
        """Of a file, in the first folder that has it; of none, in the first."""
        if folder == "algo" and self.own_recipe is not None:
            return self.own_recipe
        paths = [config_dir / folder / f"{name}.yaml" for config_dir in self.config_dirs]
        return next((path for path in paths if path.exists()), paths[0])

    def pick(self, key: str, valid: tuple[str, ...], *wishes: tuple[str, Any]) -> None:
        """Take the command line's wish, or else the first there is of ``(source, name)``."""
        made = [(source, name) for source, name in (("command line", self.given.get(key)), *wishes) if name is not None]
        source, name = made[0] if made else (wishes[-1][0], None)
        try:
            self.names[key] = read(name, Rule(str, choices=valid))
            self.sources[key] = source
        except ValueError as error:
            self.problems.append(problem(source, key, name, error))

    def pick_kind(self, axis: str, valid: tuple[str, ...], algo: File) -> None:
        """The kind that the command line or the algo file chooses; ``encoder: mg2l`` is short for its ``kind``."""
        if isinstance(algo.content.get(axis), str):
            algo.content[axis] = {"kind": algo.content[axis]}
        block = algo.content.get(axis)
        key, wishes = choice_key(axis), [(algo.source, block.get("kind") if isinstance(block, dict) else None)]
        if axis in LATE_AXES:
            wishes.append(("default", LATE_AXES[axis]))
        if algo.is_read or key in self.given:
            self.pick(key, valid, *wishes)

    def file(self, folder: str) -> File:
        """The chosen file of a folder; empty where none was chosen or read, or a family has none.

        A family without a file of its own has that of the longest name that its own begins with: ``a-b.yaml``, or
        ``a.yaml``, is that of ``a-b-c`` too.
        """
        name = self.names.get(folder, "")
        while folder == "env" and "-" in name and not self._path(folder, name).exists():
            name = name.rpartition("-")[0]
        path = self._path(folder, name)
        source = str(path) if path == self.own_recipe else "/".join(path.parts[-3:])
        if not name or (folder == "env" and not path.exists()):
            return File(source, {}, is_read=False)
        try:
            return File(source, read_yaml(path))
        except ConfigError as error:
            self.problems += error.problems
            return File(source, {}, is_read=False)

    def by_recipe(self, file: File, recipes: tuple[str, ...]) -> list[File]:
        """The file without its ``algo: {NAME: overrides}``, then the overrides of each recipe: the stronger layers."""
        overrides = file.content.pop("algo", {})
        if not isinstance(overrides, dict) or not all(isinstance(block, dict) for block in overrides.values()):
            self.problems.append(problem(file.source, "algo", overrides, "expected overrides by recipe, {NAME: ...}"))
            return [file]
        layers = [file]
        for name, block in overrides.items():
            if name in recipes:
                layers.append(File(f"{file.source} algo.{name}", block, speaks=name == self.names.get("algo")))
            else:
                reason = f"no such recipe{nearest(str(name), recipes)}"
                self.problems.append(problem(file.source, f"algo.{name}", block, reason))
        return layers
