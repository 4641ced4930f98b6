"""The command line of ``mg2l-kalei``: which command is meant, and how it ends.

A command's module is imported when it is asked for: what others need takes seconds to import.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from mg2l_kalei.commands.outcome import exit_code
from mg2l_kalei.disk.output import say

HELP = {"-h", "--help"}


class Command(NamedTuple):
    """Where a command stands, and what it is for."""

    function: str  # module and name: takes the words after the command, returns the exit code
    options: str  # likewise: the dataclass of its options, or a function of the words that returns lines of help
    usage: str  # words after the command
    meaning: str


_COMMANDS = "mg2l_kalei.commands"
COMMANDS = {
    "train": Command(
        f"{_COMMANDS}.train.train_or_show",
        f"{_COMMANDS}.train_help.help_lines",
        "[--expt=NAME] [--algo=NAME] [--env=NAME] [KEY=VALUE ...]",
        "meta-train, or go on with the run that the same settings began",
    ),
    "grid": Command(
        f"{_COMMANDS}.grid.grid",
        f"{_COMMANDS}.grid.GridOptions",
        "GRID.yaml | algo=A,B env=X,Y seed=0..4 [KEY=VALUE[,VALUE ...] ...]",
        "every combination of settings as a run of its own, several at once",
    ),
    "resume": Command(
        f"{_COMMANDS}.resume.resume",
        f"{_COMMANDS}.resume.ResumeOptions",
        "RUN_DIR [KEY=VALUE ...]",
        "go on with a run from its folder alone",
    ),
    "evaluate": Command(
        f"{_COMMANDS}.evaluate.evaluate",
        f"{_COMMANDS}.evaluate.EvaluateOptions",
        "RUN_DIR [RUN_DIR ...] [KEY=VALUE ...]",
        "how fast a run adapts; several: seeds of one method",
    ),
    "finetune": Command(
        f"{_COMMANDS}.finetune.finetune",
        f"{_COMMANDS}.finetune.FinetuneOptions",
        "RUN_DIR steps=N [KEY=VALUE ...]",
        "a copy of a run trained on, or a fresh one, on each held-out task alone: lines for a report",
    ),
    "render": Command(
        f"{_COMMANDS}.render.render",
        f"{_COMMANDS}.render.RenderOptions",
        "RUN_DIR [KEY=VALUE ...]",
        "a trial as a GIF, with the targets and what each agent believes",
    ),
    "report": Command(
        f"{_COMMANDS}.report.report",
        f"{_COMMANDS}.report.ReportOptions",
        "RUNS [RUNS ...] out=DIR [KEY=VALUE ...]",
        "tables, figures and one page over many runs, from what they stored",
    ),
    "curves": Command(
        f"{_COMMANDS}.curves.draw_curves",
        f"{_COMMANDS}.curves.CurvesOptions",
        "RUN_DIR [RUN_DIR ...] [KEY=VALUE ...]",
        "what runs logged while they trained: a table and a picture",
    ),
    "export": Command(
        f"{_COMMANDS}.export.export",
        f"{_COMMANDS}.export.ExportOptions",
        "RUN_DIR [KEY=VALUE ...]",
        "its team as one program, for which PyTorch alone is needed",
    ),
    "tasks": Command(
        f"{_COMMANDS}.tasks.tasks",
        f"{_COMMANDS}.tasks.help_lines",
        "list | show NAME | hash NAME | check NAME [KEY=VALUE ...] | certify NAME RUN_DIR ...",
        "the task families: which there are, what is in one, whether it is sound",
    ),
}


def usage() -> str:
    """The text of ``--help``."""
    lines = [f"  {name} {command.usage}\n      {command.meaning}" for name, command in COMMANDS.items()]
    head = "Usage: mg2l-kalei COMMAND ... (or: python -m mg2l_kalei COMMAND ...)\n"
    return "\n".join([head, *lines, "\nmg2l-kalei COMMAND --help says what can be set; mg2l-kalei --version"])


def load(words: Sequence[str]) -> None:
    """Import what the command needs, or its help."""
    if words and words[0] in COMMANDS:
        _wanted(COMMANDS[words[0]], words)


def run(words: Sequence[str]) -> int:
    """Exit code 0: done; 1: it failed, or ``tasks check`` found problems; 2: bad input, nothing was written."""
    if not words or words[0] in {*HELP, "help"}:
        say(usage(), is_error=not words)
        return 0 if words else 2
    command, *rest = words
    return exit_code(partial(_run, command, rest))


def _run(name: str, words: Sequence[str]) -> int:
    if name not in COMMANDS:
        from mg2l_kalei.config import ConfigError
        from mg2l_kalei.config.settings import nearest

        raise ConfigError([f"{name}: expected {', '.join(COMMANDS)}{nearest(name, COMMANDS)}"])
    command = COMMANDS[name]
    wanted = _wanted(command, words)
    if HELP & {*words}:
        lines = _help_lines(wanted, words)
        say("\n".join([f"Usage: mg2l-kalei {name} {command.usage}", command.meaning, "", *lines]))
        return 0
    code: int = wanted(words)
    return code


def _wanted(command: Command, words: Sequence[str]) -> Any:
    """The command's function, or its options where help is asked for."""
    module, _, name = (command.options if HELP & {*words} else command.function).rpartition(".")
    return getattr(importlib.import_module(module), name)


def _help_lines(options: Any, words: Sequence[str]) -> list[str]:
    if not isinstance(options, type):
        lines: list[str] = options(words)
        return lines
    from mg2l_kalei.config.options import option_lines

    return option_lines(options())
