"""Options of a command that works on what is there already, such as the evaluation of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from envs.settings import Refusal
from mg2l_kalei.config.command_line import parse
from mg2l_kalei.config.files import ConfigError
from mg2l_kalei.config.layers import COMMAND_LINE
from mg2l_kalei.config.settings import describe, from_text, nearest, problem, read, rules, to_text

Options = TypeVar("Options")


def read_options(words: Sequence[str], default: Options) -> tuple[list[str], Options]:
    """The words that are no option, in their order, and ``default`` (a dataclass of settings) as the others have it.

    An option is written ``key=value`` or ``--key=value``. Raises ConfigError with everything that is wrong.
    """
    paths, options, problems = legal_options(words, default)
    if problems:
        raise ConfigError(problems)
    return paths, options


def legal_options(words: Sequence[str], default: Options) -> tuple[list[str], Options, list[str]]:
    """As ``read_options``, for who has more to say: options as far as they are legal, and what is wrong with others."""
    options = [word for word in words if word.startswith("--") or _is_assignment(word)]
    assignments, problems = parse(options)
    known, given = rules(default), {}
    for key, text in assignments:
        if key not in known:
            problems.append(problem(COMMAND_LINE, key, text, f"no such option{nearest(key, known)}"))
            continue
        try:
            given[key] = read(from_text(text, known[key]), known[key])
        except ValueError as error:
            problems.append(problem(COMMAND_LINE, key, text, error))
    dataclass: Any = default
    return [word for word in words if word not in options], replace(dataclass, **given), problems


@contextmanager
def noting(problems: list[str]) -> Iterator[None]:
    """A block that ends where something is refused; what that is joins ``problems``, to be told with others."""
    try:
        yield
    except ConfigError as error:
        problems += error.problems
    except Refusal as error:
        problems.append(str(error))


def only_run(command: str, paths: Sequence[str]) -> Path:
    """The folder of the one run that a command is about. Raises ConfigError."""
    if len(paths) != 1:
        raise ConfigError([f"{command}: expected the folder of one run, given: {', '.join(paths) or 'none'}"])
    return Path(paths[0])


def file_named(out: str | None, suffix: str) -> Path | None:
    """What the option ``out`` names, a file that ends in ``suffix``; None: nothing. Raises ConfigError."""
    if out is not None and Path(out).suffix != suffix:
        raise ConfigError([problem(COMMAND_LINE, "out", out, f"expected a file name that ends in {suffix}")])
    return None if out is None else Path(out)


def option_lines(default: object) -> list[str]:
    """A line for each option: its default, meaning and legal values."""
    return [
        f"    {name}={to_text(rule.default)}  {rule.meaning} ({describe(rule)})"
        for name, rule in rules(default).items()
    ]


def _is_assignment(word: str) -> bool:
    """A path may hold an equals sign too, but behind a slash or in a name that is no option's."""
    key, sign, _ = word.partition("=")
    return bool(sign) and key.isidentifier()
