"""Meta-train: ``python train.py --expt=default --algo=mg2l_kalei --env=mpe-spread seed=3``; see ``--help``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from mg2l_kalei.training.stop_signal import until_stopped


def main(argv: list[str]) -> int:
    """Exit code 0: done; 1: the run failed; 2: bad input, nothing was done; 128 + signal: stopped."""

    def load() -> Callable[[Sequence[str]], int]:
        from mg2l_kalei.commands.train import run  # here: it takes seconds, in which signals are answered

        return run

    return until_stopped(load, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
