"""``python train.py``: from a command line to a trained run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mg2l_kalei.commands.outcome import exit_code
from mg2l_kalei.config import load, render_help, render_sources, request
from mg2l_kalei.disk.output import say
from mg2l_kalei.training.plan import train
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA


def run(words: Sequence[str]) -> int:
    """Exit code 0: done; 1: the run failed; 2: bad input, nothing was done; 128 + signal: stopped and saved."""
    wish = request(words)
    if wish == "help":
        say(render_help(SCHEMA, CONFIG_DIR))
        return 0
    return exit_code(partial(_run, words, wish))


def _run(words: Sequence[str], wish: str | None) -> int:
    resolved = load(words, SCHEMA, CONFIG_DIR)
    if wish == "print-config":
        say(render_sources(resolved))
        return 0
    return train(resolved.config)
