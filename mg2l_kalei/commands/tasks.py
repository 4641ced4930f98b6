"""``mg2l-kalei tasks``: what families there are, what is in one, and whether it is sound."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mg2l_kalei.disk.output import say

if TYPE_CHECKING:
    from envs.core import TaskFamily

PLUGINS = "mg2l_kalei.plugins"  # as ``training.plugins.GROUP``, which takes seconds to import
CERTIFY = "certify"  # reads runs, where the other actions make the family
LISTED = "families.txt"  # in the package ``envs``: what ``tasks list`` prints, which takes seconds to find out


def tasks(words: Sequence[str]) -> int:
    """What families there are, what is in one, and whether it is sound."""
    if list(words) == ["list"] and not entry_points(group=PLUGINS):
        say(_listed() or listing())
        return 0
    return _with_plugins(words)


def help_lines(words: Sequence[str]) -> list[str]:
    """What can be done with families."""
    return [
        "tasks list                        the task families",
        "tasks show NAME [KEY=VALUE ...]   a family's sizes and tasks, as training draws them with these settings",
        "tasks hash NAME [KEY=VALUE ...]   the fingerprint of its tasks",
        "tasks check NAME [KEY=VALUE ...]  does it keep the contract of task families? Exit code 1 if not",
        "tasks certify NAME RUN_DIR ...    does it need its task inferred? From what trained runs stored: the lines",
        "                                  none and oracle, others beside them. Exit code 1 if not",
    ]


# --- the list ---------------------------------------------------------------------------------------------------------


def listing() -> str:
    """A line for each family."""
    from envs import ENVS

    return "\n".join(map(_line, ENVS))


def renew_list() -> None:
    """Write the list down. To be called where families have changed: ``make lists``."""
    path = _packaged()
    path.write_text(f"{_registry_digest(path)}\n{listing()}\n", encoding="utf-8")


def _listed() -> str:
    """The list as it was written down; empty where families were registered since."""
    path = _packaged()
    digest, _, lines = path.read_text(encoding="utf-8").partition("\n") if path.exists() else ("", "", "")
    return lines.rstrip() if digest == _registry_digest(path) else ""


def _packaged() -> Path:
    """The list's file, found without importing the package."""
    spec = find_spec("envs")
    assert spec and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / LISTED


def _registry_digest(listed: Path) -> str:
    """Of all that says which families there are, and what is in them."""
    sources = sorted(path for path in listed.parent.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


# --- one family -------------------------------------------------------------------------------------------------------


def _with_plugins(words: Sequence[str]) -> int:
    from mg2l_kalei.training.plugins import asked, load_plugins

    load_plugins(asked(words))
    if words[:1] == ["list"] and all(word.removeprefix("--").startswith("plugins=") for word in words[1:]):
        say(listing())
        return 0
    return _one(words)


def _one(words: Sequence[str]) -> int:
    from envs import ENVS
    from mg2l_kalei.config import ConfigError
    from mg2l_kalei.config.settings import nearest

    actions = {"show": _show, "hash": _hash, "check": _check}
    if not words:
        raise ConfigError([f"tasks: expected {', '.join(['list', *actions, CERTIFY])}"])
    action, *others = words
    if action == "list":
        raise ConfigError([f"tasks list {' '.join(others)}: expected nothing after list"])
    if action == CERTIFY:
        from mg2l_kalei.commands.certify import certify_family

        return certify_family(_named(action, others), others[1:])
    if action not in actions:
        choices = ["list", *actions, CERTIFY, *(f"show {name}" for name in ENVS)]
        raise ConfigError(
            [f"tasks {action}: expected list, {', '.join([*actions, CERTIFY])}{nearest(action, choices)}"]
        )
    return actions[action](_family(_named(action, others), others[1:]))


def _named(action: str, words: Sequence[str]) -> str:
    """The family's name, the first of the words. Raises ConfigError."""
    from envs import ENVS
    from mg2l_kalei.config import ConfigError
    from mg2l_kalei.config.settings import nearest

    name = words[0] if words else ""
    if not name or "=" in name:
        given = f"tasks {action} {name}".rstrip()
        raise ConfigError([f"{given}: expected a family's name first, see tasks list"])
    if name not in ENVS:
        raise ConfigError([f"tasks {action} {name}: no such family{nearest(name, ENVS)}, see tasks list"])
    return name


def _family(name: str, settings: Sequence[str]) -> TaskFamily:
    """The family as a training run with these settings has it. Raises ConfigError."""
    from envs.core import Refusal
    from mg2l_kalei.config import ConfigError, load, request
    from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA, family_of

    if request(settings) != "train":
        raise ConfigError(["tasks: --print-config is an option of train"])
    config = load([f"--env={name}", *settings], SCHEMA, CONFIG_DIR).config
    try:
        return family_of(config)
    except Refusal as error:
        raise ConfigError([str(error)]) from error


def _line(name: str) -> str:
    """Its summary; of a family that needs settings, which."""
    from mg2l_kalei.config import ConfigError

    try:
        return _summary(_family(name, ()))
    except ConfigError as error:
        return f"{name:<20}  {error}"


def _summary(family: TaskFamily) -> str:
    spec = family.spec
    counts = ", ".join(f"{len(of_split)} {split}" for split, of_split in family.splits.items())
    actions = f"{spec.action_dim} {'actions' if spec.is_discrete else 'action dimensions'}"
    seen = " (all seen in training)" if family.seen_only else ""
    sizes = f"{spec.n_agents} agents, {actions}, {spec.episode_steps} steps"
    return f"{family.name:<20}  {sizes}; tasks: {counts}{seen}"


def _show(family: TaskFamily) -> int:
    from mg2l_kalei.config.settings import to_text

    width = max((len(task.name) for task in family.tasks), default=0)
    say(_summary(family))
    say(f"version {family.version}, fingerprint {family.fingerprint()}")
    for number, task in enumerate(family.tasks):
        params = " ".join(f"{key}={to_text(value)}" for key, value in task.params.items())
        say(f"{number:>4}  {task.split:<5}  {task.name:<{width}}  {params}".rstrip())
    return 0


def _hash(family: TaskFamily) -> int:
    say(family.fingerprint())
    return 0


def _check(family: TaskFamily) -> int:
    from envs.check import check_family, unusual

    problems = check_family(family)
    say("\n".join(problems) or f"{family.name}: no problem found")
    if problems:
        return 1
    for remark in unusual(family):
        say(f"warning: {remark}", is_error=True)
    return 0
