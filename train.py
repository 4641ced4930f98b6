"""Meta-train: ``python train.py --expt=default --algo=mg2l_kalei --env=mpe-spread seed=3``; see ``--help``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mg2l_kalei import __main__ as program


def main(argv: Sequence[str]) -> int:
    """Exit code 0: done; 1: the run failed; 2: bad input, nothing was done; 128 + signal: stopped."""
    return program.main(["train", *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
