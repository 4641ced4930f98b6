"""The program ``mg2l-kalei``: training, and what is done with trained runs and task families; see ``--help``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

import mg2l_kalei
from mg2l_kalei.training.stop_signal import until_stopped


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: done; 1: it failed; 2: bad input, nothing was written; 128 + signal: stopped.

    ``argv``: the words after the program's name; None: those that it was started with.
    """
    words = sys.argv[1:] if argv is None else argv
    if list(words) == ["--version"]:
        print(f"mg2l_kalei {mg2l_kalei.__version__}")
        return 0
    _find_modules_here()
    if shadow := mg2l_kalei.shadow_of_envs():
        print(shadow, file=sys.stderr)
        return 2

    def load() -> Callable[[Sequence[str]], int]:
        from mg2l_kalei.commands import program  # here: it takes seconds, in which signals are answered

        program.load(words)
        return program.run

    return until_stopped(load, words)


def _find_modules_here() -> None:
    """The working directory is searched for modules that settings name, after all that is installed."""
    with suppress(FileNotFoundError):  # it may have been removed
        here = os.getcwd()
        if not {here, ""} & {*sys.path}:
            sys.path.append(here)


if __name__ == "__main__":
    sys.exit(main())
