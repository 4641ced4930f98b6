"""The program ``mg2l-kalei``: training, and what is done with trained runs and task families; see ``--help``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from mg2l_kalei.training.stop_signal import until_stopped


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: done; 1: it failed; 2: bad input, nothing was written; 128 + signal: stopped.

    ``argv``: the words after the program's name; None: those that it was started with.
    """
    words = sys.argv[1:] if argv is None else argv

    def load() -> Callable[[Sequence[str]], int]:
        from mg2l_kalei.commands import program  # here: it takes seconds, in which signals are answered

        program.load(words)
        return program.run

    return until_stopped(load, words)


if __name__ == "__main__":
    sys.exit(main())
