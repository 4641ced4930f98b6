"""How the programs end: a refusal and a failure are a line each; a bug keeps its traceback."""

from __future__ import annotations

from collections.abc import Callable

from mg2l_kalei.disk.output import say


def exit_code(do: Callable[[], int]) -> int:
    """What ``do`` returns; 1: it failed; 2: it was refused, before anything was done."""
    try:
        return do()
    except Exception as error:
        line, code = _ending(error)
        if not code:
            raise
        if line:
            say(line, is_error=True)
        return code


def _ending(error: Exception) -> tuple[str, int]:
    """Line, if there is something to say, and exit code; 0: a bug."""
    import torch  # here, and the others: what has not failed need not wait for them

    from envs.core import EnvFailure, Refusal
    from mg2l_kalei.buffers.contexts import ReplayTooSmall
    from mg2l_kalei.config import ConfigError
    from mg2l_kalei.disk.checkpoint import CheckpointError
    from mg2l_kalei.disk.finite import NonFiniteError
    from mg2l_kalei.disk.run_folder import RunFolderLocked
    from mg2l_kalei.processes import ProcessLost, speaks_for_all

    if isinstance(error, ConfigError) and not speaks_for_all():
        return "", 2  # settings are those of all processes
    if isinstance(error, Refusal):
        return str(error), 2
    failures = (CheckpointError, EnvFailure, NonFiniteError, OSError, ProcessLost, ReplayTooSmall, RunFolderLocked)
    if isinstance(error, failures):
        return f"error: {error}", 1
    is_unmet = isinstance(error, RuntimeError) and "allocate memory" in str(error)
    if is_unmet or isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return "error: out of memory: fewer n_rows, or a smaller replay.capacity, need less", 1
    return "", 0
