"""``python train.py``: from a command line to a trained run."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from envs.core import EnvFailure
from mg2l_kalei.config import ConfigError, load, render_help, render_sources, request
from mg2l_kalei.disk.checkpoint import CheckpointError
from mg2l_kalei.disk.finite import NonFiniteError
from mg2l_kalei.disk.output import say
from mg2l_kalei.disk.run_folder import RunFolderLocked
from mg2l_kalei.training.plan import train
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA


def run(words: Sequence[str]) -> int:
    """Exit code 0: done; 1: the run failed; 2: bad input, nothing was done; 128 + signal: stopped and saved."""
    wish = request(words)
    if wish == "help":
        say(render_help(SCHEMA, CONFIG_DIR))
        return 0
    try:
        resolved = load(words, SCHEMA, CONFIG_DIR)
        if wish == "print-config":
            say(render_sources(resolved))
            return 0
        return train(resolved.config)
    except ConfigError as error:
        say("\n".join(error.problems), is_error=True)
        return 2
    except (CheckpointError, EnvFailure, RunFolderLocked, NonFiniteError, OSError, ValueError) as error:
        say(f"error: {error}", is_error=True)
        return 1
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "allocate memory" not in str(error):
            raise
        say("error: out of memory: fewer n_rows, or a smaller replay.capacity, need less", is_error=True)
        return 1
