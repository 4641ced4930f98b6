"""Meta-train: ``python train.py --expt=default --algo=mg2l_kalei --env=mpe-spread seed=3``; see ``--help``."""

from __future__ import annotations

import sys

import torch

from envs.core import EnvFailure
from mg2l_kalei.config import ConfigError, load, render_help, render_sources, request
from mg2l_kalei.disk.checkpoint import CheckpointError
from mg2l_kalei.disk.finite import NonFiniteError
from mg2l_kalei.disk.run_folder import RunFolderLocked
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA
from mg2l_kalei.training.training_run import train


def main(argv: list[str]) -> int:
    """Exit code 0: done; 1: the run failed; 2: bad input, nothing was done; 128 + signal: stopped and saved."""
    wish = request(argv)
    if wish == "help":
        print(render_help(SCHEMA, CONFIG_DIR))
        return 0
    try:
        resolved = load(argv, SCHEMA, CONFIG_DIR)
        if wish == "print-config":
            print(render_sources(resolved))
            return 0
        return train(resolved.config)
    except ConfigError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return 2
    except (CheckpointError, EnvFailure, RunFolderLocked, NonFiniteError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "allocate memory" not in str(error):
            raise
        print("error: out of memory: fewer n_rows, or a smaller replay.capacity, need less", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
