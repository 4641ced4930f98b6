"""What configurations are made of. It imports nothing that takes long: programs print their help from it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import field
from typing import Any


def setting(
    default: Any,
    meaning: str,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    choices: Collection[Any] | None = None,
    extends: bool = False,
    is_late: bool = False,
    is_code: bool = False,
    from_file: Callable[[str], Any] | None = None,
) -> Any:
    """One hyper-parameter of a frozen config dataclass: its default, its meaning (with unit) and its legal range.

    ``low <= value``, ``above < value``, ``value <= high``, ``value in choices``: the config loader enforces them.
    ``extends`` marks settings that only extend or watch a run (iterations, logging): they do not make it another run.
    ``is_late`` marks settings that earlier releases lacked: at their defaults they leave a run's name as it was.
    ``is_code`` marks settings that name code to import, or what it is called with: those of a run's folder are not
    followed unless confirmed.
    ``from_file`` makes the value out of the file whose name users give; the value is the run's, the file is not. It
    raises ValueError, in one line.
    """
    limits = {"low": low, "above": above, "high": high, "choices": choices}
    metadata = {"meaning": meaning, **limits, "extends": extends, "is_code": is_code, "from_file": from_file}
    metadata["is_late"] = is_late
    return field(default=default, metadata=metadata)


def is_in_range(
    value: Any, *, low: float | None, above: float | None, high: float | None, choices: Collection[Any] | None
) -> bool:
    """Whether a setting may have this value, by the limits that it was declared with."""
    return not (
        (low is not None and value < low)
        or (above is not None and value <= above)
        or (high is not None and value > high)
        or (choices is not None and value not in choices)
    )


class Refusal(ValueError):
    """What was asked for cannot be. The message says so in one line, to whoever asked; any other error is a bug."""
