"""Plugins: modules of other people that add kinds and recipes, without a change to this package.

A plugin has a function ``register(to)``, which says what it adds. It is named by the setting ``plugins`` on the command
line, or by its distribution in the group of entry points ``mg2l_kalei.plugins``.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Collection, Iterable, MutableMapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from envs import ENVS
from envs.core import Refusal, TaskFamily, one_line
from mg2l_kalei.config import ConfigError, Resolved, RunConfig, load, read_yaml
from mg2l_kalei.config.command_line import parse
from mg2l_kalei.config.files import names_in
from mg2l_kalei.config.layers import COMMAND_LINE, DEFAULT
from mg2l_kalei.config.settings import from_text, problem, read, rules, to_text
from mg2l_kalei.encoders import ENCODERS
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.encoders.objectives import OBJECTIVES, Objective
from mg2l_kalei.encoders.poolings import POOLINGS, PoolingKind
from mg2l_kalei.learners import LEARNERS, Learner
from mg2l_kalei.sharing import SHARINGS, ParameterSharing
from mg2l_kalei.training.system import CONFIG_DIR, FOLDERS, SCHEMA
from mg2l_kalei.world_models import WORLD_MODELS
from mg2l_kalei.world_models.base import WorldModel

GROUP = "mg2l_kalei.plugins"  # of entry points: name = module
KINDS_OF_FILES = ("algo", "env", "expt")
_RULE = rules(RunConfig)["plugins"]

_log = logging.getLogger(__name__)


class Registries:
    """Where a plugin adds to what there is. A kind is a class and the default of its config, a frozen dataclass.

    What is there already under the same name is refused, unless it is the same.
    """

    def family(self, name: str, family: type[TaskFamily], config: Any) -> None:
        """A task family, chosen by ``--env=name``."""
        _add(ENVS, "env", name, (family, config))

    def encoder(self, name: str, encoder: type[TaskEncoder], config: Any) -> None:
        """A task encoder, chosen by ``encoder=name``."""
        _add(ENCODERS, "encoder", name, (encoder, config))

    def pooling(self, name: str, make: Callable[..., Any]) -> None:
        """A pooling of the encoder ``mg2l``: ``make(config, width, generator)``, by ``encoder.pooling=name``."""
        _add(POOLINGS, "encoder.pooling", name, PoolingKind(make))

    def objective(self, name: str, objective: type[Objective]) -> None:
        """What the encoder ``mg2l`` may be trained by, where ``name`` is among ``encoder.objectives``."""
        _add(OBJECTIVES, "encoder.objectives", name, objective)

    def sharing(self, name: str, sharing: type[ParameterSharing], config: Any) -> None:
        """A sharing scheme, chosen by ``sharing=name``."""
        _add(SHARINGS, "sharing", name, (sharing, config))

    def learner(self, name: str, learner: type[Learner], config: Any) -> None:
        """A learner, chosen by ``learner=name``."""
        _add(LEARNERS, "learner", name, (learner, config))

    def world_model(self, name: str, model: type[WorldModel], config: Any) -> None:
        """A world model, chosen by ``world_model=name``."""
        _add(WORLD_MODELS, "world_model", name, (model, config))

    def recipes(self, folder: str | Path) -> None:
        """YAML files in ``folder``: recipes in its ``algo``, families' settings in ``env``, experiments in ``expt``."""
        folder = Path(folder).resolve()
        if folder in FOLDERS:
            return
        if not any((folder / kind).is_dir() for kind in KINDS_OF_FILES):
            raise Refusal(f"{folder} has none of the folders {', '.join(KINDS_OF_FILES)}")
        for kind in KINDS_OF_FILES:
            there = names_in(*(other / kind for other in (CONFIG_DIR, *FOLDERS)))
            if again := {*names_in(folder / kind)} & {*there}:
                raise Refusal(f"{folder / kind}: there is {', '.join(sorted(again))} already")
        FOLDERS.append(folder)


def resolve(words: Sequence[str]) -> Resolved:
    """The configuration that the words of a command line ask for, with its plugins loaded. Raises ConfigError.

    Code is run that the words name, never what a file names alone.
    """
    named = asked(words)
    stored = next((text for key, text in parse(words)[0] if key == "config"), None)
    if stored is not None:
        refuse_unconfirmed_plugins(stored, read_yaml(Path(stored)).get("plugins"), named)
    load_plugins(named)
    resolved = load(words, SCHEMA, CONFIG_DIR)
    config, sources = resolved.config, resolved.sources
    if sources["plugins"] != COMMAND_LINE:
        refuse_unconfirmed_plugins(sources["plugins"], config.plugins, ())
    factory = next((name for name, rule in rules(config.env).items() if rule.is_code), None)
    source = sources[f"env.{factory}"] if factory else COMMAND_LINE
    if factory and source not in (COMMAND_LINE, DEFAULT):
        named_code = f"env.{factory}={to_text(getattr(config.env, factory))}"
        raise ConfigError([one_line(f"{source} names code to run, {named_code}; if you trust it, add {named_code}")])
    return resolved


def configure(*words: str) -> RunConfig:
    """The configuration that the words of a command line ask for: ``configure("--env=mpe-spread", "seed=3")``.

    Raises ConfigError with everything that is wrong.
    """
    return resolve(words).config


def asked(words: Sequence[str]) -> tuple[str, ...]:
    """The plugins that the words of a command line name. Raises ConfigError."""
    named: tuple[str, ...] = ()
    for key, text in parse(words)[0]:
        if key == "plugins":
            try:
                named += read(from_text(text, _RULE), _RULE)
            except ValueError as error:
                raise ConfigError([problem(COMMAND_LINE, key, text, error)]) from error
    return named


def load_plugins(named: Iterable[str]) -> None:
    """Import the modules ``named``, and those that are installed as plugins, and let them register what they have.

    Raises ConfigError where one of ``named`` cannot; one that is merely installed is a warning then.
    """
    for name in dict.fromkeys(named):
        if failure := _failure(name):
            raise ConfigError([one_line(f"plugins={name}: {failure}")])
    _load_installed()


def refuse_unconfirmed_plugins(source: str | Path, named: object, confirmed: Collection[str]) -> None:
    """A file may be a stranger's: modules that it names are imported only where the user names them too."""
    try:
        modules = read(named or (), _RULE)
    except ValueError as error:
        raise ConfigError([problem(str(source), "plugins", named, error)]) from error
    if not {*modules} <= {*confirmed}:
        listed = f"plugins={','.join(modules)}"
        raise ConfigError([one_line(f"{source} names code to run, {listed}; if you trust it, add {listed}")])


@cache
def _failure(name: str) -> str:
    """Why a module cannot be loaded and register; empty: it has. Once in a process: what it makes then is itself."""
    try:
        importlib.import_module(name).register(Registries())
    except Refusal as error:
        return str(error)
    except (Exception, SystemExit) as error:  # a script that was not meant to be imported may leave
        return f"loading it raised {type(error).__name__}: {error}"
    return ""


@cache
def _load_installed() -> None:
    for point in sorted(entry_points(group=GROUP)):
        if failure := _failure(point.value):
            _log.warning("%s", one_line(f"the installed plugin {point.name} ({point.value}) failed: {failure}"))


def _add(registry: MutableMapping[str, Any], axis: str, name: str, entry: Any) -> None:
    if registry.setdefault(name, entry) != entry:
        raise Refusal(f"there is {axis}={name} already: call it otherwise")
