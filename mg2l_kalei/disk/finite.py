"""Refusal of NaN and infinities: the run stops with the first bad tensor's name and the batch on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mg2l_kalei.disk import tensor_file
from mg2l_kalei.disk.durable import write_atomically
from mg2l_kalei.processes import ALONE, Processes
from mg2l_kalei.types import Rollout

WITHIN_A_STEP = ("obs", "state", "latent", "action", "log_prob", "memory", "reward")  # each may spoil those after it


class NonFiniteError(RuntimeError):
    """A tensor holds NaN or infinities; the message names it, and the file that the whole batch was written to."""


def check_finite(
    named: Mapping[str, Tensor | tuple[Any, ...] | None],
    batch_path: Path,
    *,
    time_first: bool = False,
    processes: Processes = ALONE,
) -> None:
    """Raise NonFiniteError if any tensor is not finite; else cost one reduction per tensor and one wait for the device.

    In all processes, if in one; it is the one with the bad tensor that names it.

    Values are tensors, None, or NamedTuples of such; give them in the order in which they came about, as the first bad
    one is named; ``time_first``: they are (T, ...), and the one that is bad at the earliest step comes before others.
    The batch is written to ``batch_path`` as safetensors.
    """
    tensors = dict(_flat(named))
    floating = {name: t for name, t in tensors.items() if t.is_floating_point() and t.numel()}
    peaks = [torch.linalg.vector_norm(t.detach(), ord=torch.inf).double() for t in floating.values()]
    is_finite = torch.isfinite(torch.stack([peak.to(peaks[0].device) for peak in peaks])).tolist() if peaks else []
    bad = [name for name, fine in zip(floating, is_finite, strict=True) if not fine]
    is_bad_somewhere = processes.any(bool(bad))
    if bad:
        first = min(bad, key=lambda name: _first_index(floating[name])[:1]) if time_first else bad[0]
        raise NonFiniteError(f"{_describe(first, floating[first])}; {_write(tensors, batch_path)}")
    if is_bad_somewhere:
        raise NonFiniteError("another process of this run met values that are not finite: its message names them")


def check_trial(rollout: Rollout, batch_path: Path, processes: Processes = ALONE) -> None:
    """Raise NonFiniteError if anything in a trial is not finite, naming what was bad first."""
    parts = trial_parts(rollout._replace(contexts=None))
    named = {name: parts[name] for name in (*WITHIN_A_STEP, *parts)}
    check_finite(named, batch_path, time_first=True, processes=processes)


def trial_parts(rollout: Rollout) -> dict[str, Any]:
    """What a trial consists of, by name: fields of its steps, then its own."""
    parts = rollout._asdict()
    return {**parts.pop("steps")._asdict(), **parts}


def _flat(named: Mapping[str, Tensor | tuple[Any, ...] | None], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, value in named.items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, tuple):
            fields = getattr(value, "_fields", range(len(value)))
            yield from _flat({str(field): item for field, item in zip(fields, value, strict=True)}, f"{prefix}{name}.")


def _describe(name: str, tensor: Tensor) -> str:
    n_bad = int((~torch.isfinite(tensor.detach())).sum())
    index, shape = _first_index(tensor), tuple(tensor.shape)
    return f"{name} has {n_bad} non-finite values of {tensor.numel()}, the first at {index} of {shape}"


def _first_index(tensor: Tensor) -> tuple[int, ...]:
    return tuple((~torch.isfinite(tensor.detach())).nonzero()[0].tolist())


def _write(tensors: Mapping[str, Tensor], path: Path) -> str:
    try:
        write_atomically(path, tensor_file.to_bytes(tensors))
    except OSError as error:
        return f"the batch could not be written ({error})"
    return f"the batch is in {path}"
