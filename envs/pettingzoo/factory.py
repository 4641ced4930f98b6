"""From ``module:function`` and keywords to an environment: the one place that imports what a setting names."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envs.core import Refusal, one_line
from envs.extras import EXTRAS, install
from envs.pettingzoo.interrupts import raise_interruption

if TYPE_CHECKING:
    from pettingzoo import ParallelEnv


class Complaint(Refusal):
    """What is wrong with an environment, in one line that says it all: where it was raised adds nothing."""


def make_env(factory: str, keywords: Mapping[str, Any]) -> ParallelEnv[Any, Any, Any]:
    """Call the factory. Raises Complaint where it is not there, fails, or makes something else."""
    from pettingzoo import AECEnv, ParallelEnv

    function = _function(factory)
    call = f"{factory}({', '.join(f'{name}={value!r}' for name, value in keywords.items())})"
    _check_arguments(function, keywords, call)
    try:
        env = function(**keywords)
    except BaseException as error:
        raise_interruption(error)
        raise Complaint(f"{call} raised {in_one_line(error)}") from error
    if isinstance(env, AECEnv):
        raise Complaint(
            f"{call} is an environment whose agents take turns (AEC): name its parallel_env, or a function of your own "
            "that wraps it by pettingzoo.utils.aec_to_parallel"
        )
    if not isinstance(env, ParallelEnv):
        raise Complaint(f"{call} is {type(env).__name__}, expected a pettingzoo.ParallelEnv")
    return env


def accepts(factory: str, keywords: Mapping[str, Any]) -> bool:
    """Whether the factory can be called with these keywords, as far as its signature says. Raises Complaint."""
    try:
        inspect.signature(_function(factory)).bind(**keywords)
    except ValueError:  # a builtin has none: calling it will tell
        return True
    except TypeError:
        return False
    return True


def close_env(env: ParallelEnv[Any, Any, Any]) -> None:
    """Close an environment; what it raises then is of no interest any more."""
    try:
        env.close()
    except BaseException as error:
        raise_interruption(error)


def versions(factory: str) -> dict[str, str]:
    """Versions of PettingZoo, and of the distributions of the factory's module and of what its ``SIMULATORS`` names.

    Not of this project: whether its own distribution is found depends on how it was installed.
    """
    module = factory.partition(":")[0]
    packages = {module.partition(".")[0], *getattr(_module(module), "SIMULATORS", ())}
    packages.discard(__name__.partition(".")[0])
    known = metadata.packages_distributions()
    distributions = {"pettingzoo", *(name for package in packages for name in known.get(package, ()))}
    return {name: metadata.version(name) for name in sorted(distributions)}


def in_one_line(error: BaseException) -> str:
    """Kind and message of an error, and the line that raised it; of a Complaint, the message."""
    if isinstance(error, Complaint):
        return one_line(error)
    innermost = traceback.extract_tb(error.__traceback__)[-1:]
    place = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in innermost)
    return one_line(f"{type(error).__name__}: {error}") + place


def _function(factory: str) -> Callable[..., Any]:
    module_name, _, name = factory.partition(":")
    try:
        module = _module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if not f"{module_name}.".startswith(f"{missing}."):
            reason = f"{module_name} needs a module {missing}, which is not installed"
        else:
            reason = f"there is no module {missing}"
        raise Complaint(f"{factory}: {reason}{_way_out(missing)}") from error
    except BaseException as error:
        raise_interruption(error)
        raise Complaint(f"{factory}: importing {module_name} raised {in_one_line(error)}") from error
    function: Any = module
    for part in name.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise Complaint(f"{factory}: {module_name} has no function {name}{_nearest(name, names)}")
    return function


def _module(path: str) -> Any:
    """A module, or what a package has under that name: ``gymnasium_robotics.mamujoco_v1`` is a module of another."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        package, _, name = path.rpartition(".")
        if not package or not f"{path}.".startswith(f"{error.name}."):
            raise
        found = getattr(_module(package), name, None)
        if found is None:
            raise
        return found


def _way_out(missing: str) -> str:
    """The extra that brings a missing module, or the module beside it that is most like it."""
    if missing in EXTRAS:
        return f": {install(EXTRAS[missing])}"
    package, _, name = missing.rpartition(".")
    path = getattr(sys.modules[package], "__path__", ()) if package else None
    return _nearest(name, (module.name for module in pkgutil.iter_modules(path)))


def _nearest(word: str, choices: Iterable[str]) -> str:
    matches = difflib.get_close_matches(word, list(choices), n=1)
    return f" (did you mean {matches[0]}?)" if matches else ""


def _check_arguments(function: Callable[..., Any], keywords: Mapping[str, Any], call: str) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # a builtin has none: calling it will tell
        return
    try:
        signature.bind(**keywords)
    except TypeError as error:
        raise Complaint(f"{call}: {error}; env.train lists keyword sets, such as 'N=2 local_ratio=0.3'") from error
