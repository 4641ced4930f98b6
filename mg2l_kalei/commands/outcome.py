"""How the programs end: a refusal and a failure are a line each; a bug keeps its traceback."""

from __future__ import annotations

from collections.abc import Callable

import torch

from envs.core import EnvFailure, Refusal
from mg2l_kalei.buffers.contexts import ReplayTooSmall
from mg2l_kalei.disk.checkpoint import CheckpointError
from mg2l_kalei.disk.finite import NonFiniteError
from mg2l_kalei.disk.output import say
from mg2l_kalei.disk.run_folder import RunFolderLocked


def exit_code(do: Callable[[], int]) -> int:
    """What ``do`` returns; 1: it failed; 2: it was refused, before anything was done."""
    try:
        return do()
    except Refusal as error:
        say(str(error), is_error=True)
        return 2
    except (CheckpointError, EnvFailure, RunFolderLocked, NonFiniteError, ReplayTooSmall, OSError) as error:
        say(f"error: {error}", is_error=True)
        return 1
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "allocate memory" not in str(error):
            raise
        say("error: out of memory: fewer n_rows, or a smaller replay.capacity, need less", is_error=True)
        return 1
