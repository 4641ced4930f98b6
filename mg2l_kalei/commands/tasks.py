"""``mg2l-kalei tasks``: what families there are, what is in one, and whether it is sound."""

from __future__ import annotations

from collections.abc import Sequence

from envs import ENVS
from envs.check import check_family
from envs.core import Refusal, TaskFamily
from mg2l_kalei.config import ConfigError, load, request
from mg2l_kalei.config.settings import nearest, to_text
from mg2l_kalei.disk.output import say
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA, family_of


def tasks(words: Sequence[str]) -> int:
    """What families there are, what is in one, and whether it is sound."""
    actions = {"show": _show, "hash": _hash, "check": _check}
    if not words:
        raise ConfigError([f"tasks: expected {', '.join(['list', *actions])}"])
    action, *others = words
    if action == "list" and not others:
        say("\n".join(map(_line, ENVS)))
        return 0
    if action == "list":
        raise ConfigError([f"tasks list {' '.join(others)}: expected nothing after list"])
    if action not in actions:
        choices = ["list", *actions, *(f"show {name}" for name in ENVS)]
        raise ConfigError([f"tasks {action}: expected list, {', '.join(actions)}{nearest(action, choices)}"])
    return actions[action](_family(_named(action, others), others[1:]))


def help_lines(words: Sequence[str]) -> list[str]:
    """What can be done with families."""
    return [
        "tasks list                        the task families",
        "tasks show NAME [KEY=VALUE ...]   a family's sizes and tasks, as training draws them with these settings",
        "tasks hash NAME [KEY=VALUE ...]   the fingerprint of its tasks",
        "tasks check NAME [KEY=VALUE ...]  does it keep the contract of task families? Exit code 1 if not",
    ]


def _named(action: str, words: Sequence[str]) -> str:
    """The family's name, the first of the words. Raises ConfigError."""
    name = words[0] if words else ""
    if not name or "=" in name:
        given = f"tasks {action} {name}".rstrip()
        raise ConfigError([f"{given}: expected a family's name first, see tasks list"])
    if name not in ENVS:
        raise ConfigError([f"tasks {action} {name}: no such family{nearest(name, ENVS)}, see tasks list"])
    return name


def _family(name: str, settings: Sequence[str]) -> TaskFamily:
    """The family as a training run with these settings has it. Raises ConfigError."""
    if request(settings) != "train":
        raise ConfigError(["tasks: --print-config is an option of train.py"])
    config = load([f"--env={name}", *settings], SCHEMA, CONFIG_DIR).config
    try:
        return family_of(config)
    except Refusal as error:
        raise ConfigError([str(error)]) from error


def _line(name: str) -> str:
    """Its summary; of a family that needs settings, which."""
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
    problems = check_family(family)
    say("\n".join(problems) or f"{family.name}: no problem found")
    return 1 if problems else 0
