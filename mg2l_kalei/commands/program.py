"""The command line of ``python -m mg2l_kalei``: which command is meant, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mg2l_kalei.commands.curves import CurvesOptions, draw_curves
from mg2l_kalei.commands.evaluate import EvaluateOptions, evaluate
from mg2l_kalei.commands.outcome import exit_code
from mg2l_kalei.commands.render import RenderOptions, render
from mg2l_kalei.commands.resume import ResumeOptions, resume
from mg2l_kalei.commands.tasks import tasks
from mg2l_kalei.config import ConfigError
from mg2l_kalei.config.options import option_lines
from mg2l_kalei.config.settings import nearest
from mg2l_kalei.disk.output import say


def usage() -> str:
    """The text of ``--help``."""
    return "\n".join(
        [
            "Usage: python -m mg2l_kalei COMMAND ... (training: python train.py --help)",
            "",
            "resume RUN_DIR [KEY=VALUE ...]   goes on with a run from its folder alone",
            *option_lines(ResumeOptions()),
            "",
            "evaluate RUN_DIR [RUN_DIR ...] [KEY=VALUE ...]   how fast a run adapts; several: seeds of one method",
            *option_lines(EvaluateOptions()),
            "",
            "render RUN_DIR [KEY=VALUE ...]   a trial as a GIF, with the targets and what each agent believes",
            *option_lines(RenderOptions()),
            "",
            "curves RUN_DIR [RUN_DIR ...] [KEY=VALUE ...]   what runs logged while they trained: a table and a picture",
            *option_lines(CurvesOptions()),
            "",
            "tasks list                        the task families",
            "tasks show NAME [KEY=VALUE ...]   a family's sizes and tasks, as train.py draws them with these settings",
            "tasks hash NAME [KEY=VALUE ...]   the fingerprint of its tasks",
            "tasks check NAME [KEY=VALUE ...]  does it keep the contract of task families? Exit code 1 if not",
        ]
    )


COMMANDS = {"resume": resume, "evaluate": evaluate, "render": render, "curves": draw_curves, "tasks": tasks}


def run(words: Sequence[str]) -> int:
    """Exit code 0: done; 1: it failed, or ``tasks check`` found problems; 2: bad input, nothing was written."""
    if not words or {"-h", "--help", "help"} & set(words):
        say(usage(), is_error=not words)
        return 0 if words else 2
    command, *rest = words
    return exit_code(partial(_run, command, rest))


def _run(command: str, words: Sequence[str]) -> int:
    if command not in COMMANDS:
        raise ConfigError([f"{command}: expected {', '.join(COMMANDS)}{nearest(command, COMMANDS)}"])
    return COMMANDS[command](words)
