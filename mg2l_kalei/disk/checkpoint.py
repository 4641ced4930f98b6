"""Checkpoints: atomic, checked on loading, and free of code. Tensors in safetensors, all else in JSON.

A checkpoint is a folder, ``step-00000123``, of ``tensors.safetensors``, ``state.json`` and ``manifest.json`` (size and
SHA-256 of the other two). It is written under a temporary name, flushed to the disk and renamed; then the pointer
files ``best`` and ``latest`` are moved to it, and only then are older ones removed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from mg2l_kalei.disk import tensor_file
from mg2l_kalei.disk.durable import TEMPORARY, sync_folder, write_atomically, write_durably
from mg2l_kalei.disk.state_json import decode, encode
from mg2l_kalei.types import State

FORMAT = 1
TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
LATEST, BEST = "latest", "best"
_REPLACED = ".old"  # suffix of a checkpoint that another of the same step is replacing
_NAME = re.compile(rf"step-(\d{{8,18}})({re.escape(_REPLACED)})?")
_MAX_MANIFEST = 4096  # bytes

_log = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or none can be gone on from. The message says what to do."""


class DamagedCheckpoint(CheckpointError):
    """One checkpoint is incomplete or not what was written."""


class Loaded(NamedTuple):
    state: State
    step: int


class Checkpoints:
    """The checkpoints of one run, in ``folder``; the last ``keep`` and the best are kept. One process writes."""

    def __init__(self, folder: Path, keep: int) -> None:
        if keep < 1:
            raise ValueError(f"at least one checkpoint must be kept, not {keep}")
        self.folder = folder
        self.keep = keep

    def save(self, state: State, step: int, *, best: bool = False) -> None:
        """Make ``state`` the latest checkpoint, and the best one if it is. Later steps, left by a run cut back, go.

        Whatever fails, the latest checkpoint before stays good. Raises CheckpointError where the disk refuses, and
        TypeError naming the entry that is no tensor, number, string, None, list or dict.
        """
        if step < 0:
            raise ValueError(f"steps count from 0; there is no step {step}")
        tree, tensors = encode(state)
        files = {TENSORS: tensor_file.to_bytes(tensors), STATE: json.dumps(tree, allow_nan=False).encode()}
        files[MANIFEST] = _manifest(files, step)
        name = f"step-{step:08d}"
        temporary = self.folder / f"{TEMPORARY}{name}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            _write(temporary, files)
            self._install(temporary, name)
            for pointer in (BEST, LATEST) if best else (LATEST,):
                write_atomically(self.folder / pointer, name + "\n")
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise CheckpointError(f"{self.folder / name} was not saved ({error}); those before it stand") from error
        self._prune(step)

    def load_latest(self) -> Loaded | None:
        """The latest good checkpoint; None if none was ever saved.

        A damaged one is logged as a warning and the one before is taken. Raises CheckpointError if none is good.
        """
        latest = self._pointed(LATEST)
        candidates = self._candidates(latest)
        for name in candidates:
            try:
                return self._load(name)
            except DamagedCheckpoint as damage:
                _log.warning("checkpoint refused: %s; trying the one before", damage)
        if not candidates and not (self.folder / LATEST).exists():
            return None
        raise CheckpointError(
            f"{self.folder}: none of {len(candidates)} checkpoints can be read; "
            "restore one, or start afresh with resume=never"
        )

    def load_best(self) -> Loaded | None:
        """The best checkpoint; None if none was ever marked. Raises CheckpointError if it is damaged."""
        if not (self.folder / BEST).exists():
            return None
        name = self._pointed(BEST)
        if name is None:
            raise DamagedCheckpoint(f"{self.folder / BEST} names no checkpoint")
        return self._load(name)

    def load(self, step: int) -> Loaded:
        """The checkpoint of ``step``. Raises CheckpointError if it is missing or damaged."""
        return self._load(f"step-{step:08d}")

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, good or not, in order."""
        return sorted({_step(name) for name in self._names()})

    def _names(self) -> list[str]:
        return [path.name for path in self.folder.glob("step-*") if _NAME.fullmatch(path.name)]

    def _candidates(self, latest: str | None) -> list[str]:
        """Names in the order to try: the latest, those before it, and at last those never pointed at, newest first."""
        names = set(self._names()) | ({latest} if latest else set())
        bound = _step(latest) if latest else max(map(_step, names), default=0)

        def preference(name: str) -> tuple[bool, int, bool]:
            return _step(name) > bound, -_step(name), name.endswith(_REPLACED)

        return sorted(names, key=preference)

    def _pointed(self, pointer: str) -> str | None:
        path = self.folder / pointer
        if not path.exists():
            return None
        text = path.read_bytes()[:100].decode(errors="replace").strip()
        if _NAME.fullmatch(text) and not text.endswith(_REPLACED):
            return text
        _log.warning("%s names no checkpoint, but says %r; passed over", path, text)
        return None

    def _load(self, name: str) -> Loaded:
        return Loaded(_read(self.folder / name, _step(name)), _step(name))

    def _install(self, temporary: Path, name: str) -> None:
        final, replaced = self.folder / name, self.folder / (name + _REPLACED)
        if final.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            os.rename(final, replaced)
        os.rename(temporary, final)
        sync_folder(self.folder)

    def _prune(self, step: int) -> None:
        names = self._names()
        current = sorted(name for name in names if _step(name) <= step and not name.endswith(_REPLACED))
        kept = {*current[-self.keep :], self._pointed(BEST)}
        for name in names:
            if name not in kept:
                shutil.rmtree(self.folder / name, ignore_errors=True)  # what stays of it is damaged, and goes next time

    def _remove_leftovers(self) -> None:
        for path in self.folder.glob(f"{TEMPORARY}*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _step(name: str) -> int:
    match = _NAME.fullmatch(name)
    assert match, name
    return int(match[1])


def _manifest(files: dict[str, bytes], step: int) -> bytes:
    entries = {name: {"size": len(content), "sha256": _digest(content)} for name, content in files.items()}
    return json.dumps({"format": FORMAT, "step": step, "files": entries}, indent=1).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir()
    for name, content in files.items():
        write_durably(folder / name, content)
    sync_folder(folder)


def _read(folder: Path, step: int) -> State:
    """The state in ``folder``, every byte of it checked first. Raises CheckpointError for a format that is not ours."""
    try:
        files = _checked_manifest(folder, step)
        tensors, tree = (_checked(folder / name, files[name]) for name in (TENSORS, STATE))
        state: State = decode(json.loads(tree), tensor_file.from_bytes(tensors))
        return state
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedCheckpoint(f"{folder}: {type(error).__name__}: {error}") from error


def _checked_manifest(folder: Path, step: int) -> dict[str, Any]:
    """Size and digest of each file. Raises ValueError unless they are the two files expected, and of this step."""
    with (folder / MANIFEST).open("rb") as file:
        manifest = json.loads(file.read(_MAX_MANIFEST))
    if manifest["format"] != FORMAT:
        raise CheckpointError(
            f"{folder} has checkpoint format {manifest['format']}, this program reads format {FORMAT}: "
            "load it with the release that wrote it, or start afresh with resume=never"
        )
    if manifest["step"] != step:
        raise ValueError(f"{MANIFEST} is of step {manifest['step']}")
    files = dict(manifest["files"])
    if set(files) != {TENSORS, STATE}:
        raise ValueError(f"{MANIFEST} names {sorted(files)}, not {[STATE, TENSORS]}")
    return files


def _checked(path: Path, entry: dict[str, Any]) -> bytes:
    if path.stat().st_size != entry["size"]:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes, not {entry['size']}")
    content = path.read_bytes()
    if _digest(content) != entry["sha256"]:
        raise ValueError(f"{path.name} is not what was written: its SHA-256 differs")
    return content
