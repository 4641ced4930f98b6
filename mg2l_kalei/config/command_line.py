"""What stands on the command line: ``key=value``, ``--key=value`` and ``--key value``, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

Request = Literal["train", "help", "print-config"]
FLAGS: dict[str, Request] = {"-h": "help", "--help": "help", "--print-config": "print-config"}


class Assignment(NamedTuple):
    """One setting as it was given."""

    key: str
    text: str


def request(argv: Sequence[str]) -> Request:
    """What is asked for: help comes before the printed config, which comes before training."""
    asked = {FLAGS[word] for word in argv if word in FLAGS}
    return "help" if "help" in asked else "print-config" if asked else "train"


def parse(argv: Sequence[str]) -> tuple[list[Assignment], list[str]]:
    """The assignments in their order, and a line for each word that is none. Flags are passed over."""
    assignments: list[Assignment] = []
    problems: list[str] = []
    words = [word for word in argv if word not in FLAGS]
    while words:
        word = words.pop(0)
        is_option = word.startswith("--")
        key, has_value, text = word.removeprefix("--").partition("=")
        if is_option and not has_value and words and not words[0].startswith("--") and "=" not in words[0]:
            has_value, text = "=", words.pop(0)
        if not key or not has_value:
            problems.append(f"command line: {word}: expected {'--key=value' if is_option else 'key=value'}")
        elif not text:
            problems.append(f"command line: {word}: no value after {key}; write {key}=null for none")
        else:
            assignments.append(Assignment(key, text))
    return assignments, problems
