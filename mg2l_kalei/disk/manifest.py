"""The manifest of a checkpoint: all that belongs to it, each with size and SHA-256, and a SHA-256 of the manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

FORMAT = 2  # raised when what lies in a checkpoint changes its meaning; 1: one file of tensors, no replay
UNSEALED_FORMAT = 1  # the only one whose manifests have no SHA-256 of their own
MAX_SIZE = 1 << 22  # bytes; a shard takes some 200


class OtherFormat(Exception):
    """A whole manifest of another release; ``args``: its format."""


class FileEntry(NamedTuple):
    size: int  # bytes
    sha256: str


class ShardEntry(NamedTuple):
    first: int  # number of its first trial, counted over the whole run
    n_trials: int
    size: int  # bytes
    sha256: str

    @property
    def end(self) -> int:
        """Number of the trial after its last."""
        return self.first + self.n_trials

    @property
    def name(self) -> str:
        """Of its file: other content has another name, so that no shard is ever written over."""
        return f"trials-{self.first:012d}-{self.sha256[:16]}.safetensors"


class Manifest(NamedTuple):
    step: int
    run: dict[str, Any]  # what tells the run from others, in JSON's types
    files: dict[str, FileEntry]  # by name, in the checkpoint's own folder
    shards: tuple[ShardEntry, ...]  # of replay, in the order of their trials


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def describe(content: bytes) -> FileEntry:
    """The entry that ``content`` is checked against."""
    return FileEntry(len(content), digest(content))


def check(name: str, content: bytes, entry: FileEntry | ShardEntry) -> bytes:
    """``content``. Raises ValueError unless it is what was written."""
    if len(content) != entry.size:
        raise ValueError(f"{name} has {len(content)} bytes, not {entry.size}")
    if digest(content) != entry.sha256:
        raise ValueError(f"{name} is not what was written: its SHA-256 differs")
    return content


def to_bytes(manifest: Manifest) -> bytes:
    """As JSON. Raises ValueError where it has more bytes than are read again."""
    body = {
        "format": FORMAT,
        "step": manifest.step,
        "run": manifest.run,
        "files": {name: entry._asdict() for name, entry in manifest.files.items()},
        "shards": [entry._asdict() for entry in manifest.shards],
    }
    content = json.dumps({**body, "sha256": _seal(body)}, indent=1).encode()
    if len(content) > MAX_SIZE:
        raise ValueError(f"a manifest of {len(content)} bytes, of {len(manifest.shards)} shards; {MAX_SIZE} at most")
    return content


def from_bytes(content: bytes) -> Manifest:
    """What ``to_bytes`` was given. Raises OtherFormat, and ValueError, KeyError or TypeError for anything else.

    The seal is checked before a word is believed: one flipped bit of the format is damage, and no other format.
    """
    body = json.loads(content)
    seal = body.pop("sha256", None)
    if seal is None and body["format"] == UNSEALED_FORMAT:
        raise OtherFormat(UNSEALED_FORMAT)
    if seal != _seal(body):
        raise ValueError("the manifest is not what was written: its SHA-256 differs")
    if body["format"] != FORMAT:
        raise OtherFormat(body["format"])
    return Manifest(
        _count(body["step"]),
        dict(body["run"]),
        {name: FileEntry(_count(entry["size"]), _hash(entry["sha256"])) for name, entry in body["files"].items()},
        tuple(_shard(entry) for entry in body["shards"]),
    )


def _seal(body: Mapping[str, Any]) -> str:
    return digest(json.dumps(body, sort_keys=True).encode())


def _shard(entry: Mapping[str, Any]) -> ShardEntry:
    first, n_trials, size = (_count(entry[name]) for name in ("first", "n_trials", "size"))
    return ShardEntry(first, n_trials, size, _hash(entry["sha256"]))


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"expected a count, not {value!r}")
    return value


def _hash(value: Any) -> str:
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise ValueError(f"expected a SHA-256, not {value!r}")
    return value
