"""What is done with trained runs and task families: ``python -m mg2l_kalei --help``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from mg2l_kalei.training.stop_signal import until_stopped


def main(argv: Sequence[str]) -> int:
    """Exit code 0: done; 1: it failed; 2: bad input, nothing was written; 128 + signal: stopped."""

    def load() -> Callable[[Sequence[str]], int]:
        from mg2l_kalei.commands.program import run  # here: it takes seconds, in which signals are answered

        return run

    return until_stopped(load, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
