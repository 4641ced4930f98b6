"""Shards of replay: trials that are over do not change, so each is written once, whatever many checkpoints need it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from mg2l_kalei.disk import tensor_file
from mg2l_kalei.disk.durable import read_bounded
from mg2l_kalei.disk.manifest import ShardEntry, check, digest


class Shard(NamedTuple):
    """Whole trials that follow each other."""

    first: int  # number of its first trial, counted over the whole run
    tensors: dict[str, Tensor]  # (n_trials, ...) each

    @property
    def n_trials(self) -> int:
        """Raises ValueError where the tensors do not agree on it."""
        shapes = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        if len({shape[:1] for shape in shapes.values()} | {()}) > 2 or () in shapes.values():
            raise ValueError(f"a shard's tensors have its trials as their first axis, not {shapes}")
        return next((shape[0] for shape in shapes.values()), 0)


def encode(shard: Shard) -> tuple[ShardEntry, bytes]:
    """Its entry in manifests, and the content of its file."""
    content = tensor_file.to_bytes(shard.tensors)
    return ShardEntry(shard.first, shard.n_trials, len(content), digest(content)), content


def extended(kept: Sequence[ShardEntry], new: ShardEntry | None, oldest_trial: int) -> tuple[ShardEntry, ...]:
    """Those that hold trials from ``oldest_trial`` on. Raises ValueError where trials overlap or are left out."""
    n_saved = reached(kept)
    next_trial = max(n_saved, oldest_trial)
    if new and not n_saved <= new.first <= next_trial:
        raise ValueError(f"a shard begins with trial {new.first}, but {n_saved} to {next_trial} comes next")
    return tuple(entry for entry in (*kept, new) if entry and entry.end > oldest_trial)


def reached(entries: Sequence[ShardEntry]) -> int:
    """Number of the trial after the last."""
    return entries[-1].end if entries else 0


class ShardFiles:
    """Shards on disk, read one at a time whenever they are gone through: together they may be as large as the replay.

    Going through them raises OSError and ValueError where one is not what was written.
    """

    def __init__(self, folder: Path, entries: Sequence[ShardEntry]) -> None:
        self.folder, self.entries = folder, entries

    def __iter__(self) -> Iterator[Shard]:
        return (read(self.folder, entry) for entry in self.entries)


def read(folder: Path, entry: ShardEntry) -> Shard:
    """The shard of ``entry``, checked. Raises OSError and ValueError."""
    content = check(entry.name, read_bounded(folder / entry.name, entry.size), entry)
    shard = Shard(entry.first, tensor_file.from_bytes(content))
    if shard.n_trials != entry.n_trials:
        raise ValueError(f"{entry.name} holds {shard.n_trials} trials, not {entry.n_trials}")
    return shard
