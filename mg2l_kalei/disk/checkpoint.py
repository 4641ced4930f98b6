"""Checkpoints: atomic, checked on loading, and free of code. Tensors in safetensors, all else in JSON.

A checkpoint is a folder, ``step-00000123``, of two parts and ``manifest.json``: ``weights``, which is all that acting
needs, and ``training``, each as ``*.safetensors`` and ``*.json``. It is written under a temporary name, flushed to the
disk and renamed; then the pointer files ``best`` and ``latest`` are moved to it, and only then are older ones removed.
Trials that replay keeps are in shards in ``replay``, which several checkpoints share.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mg2l_kalei.disk import manifest, parts, shards
from mg2l_kalei.disk.durable import (
    TEMPORARY,
    read_bounded,
    remove,
    remove_leftovers,
    sync_folder,
    write_atomically,
    write_durably,
)
from mg2l_kalei.disk.manifest import FORMAT, Manifest, OtherFormat, ShardEntry
from mg2l_kalei.disk.output import printable
from mg2l_kalei.disk.parts import PARTS
from mg2l_kalei.disk.shards import Shard
from mg2l_kalei.types import State

MANIFEST, REPLAY = "manifest.json", "replay"
LATEST, BEST = "latest", "best"
_REPLACED = ".old"  # suffix of a checkpoint that another of the same step is replacing
_NAME = re.compile(rf"step-(\d{{8,18}})({re.escape(_REPLACED)})?")

DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)  # what reading other content raises

_log = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or none can be gone on from. The message says what to do."""


class DamagedCheckpoint(CheckpointError):
    """One checkpoint is incomplete or not what was written."""


class Loaded(NamedTuple):
    state: dict[str, State]  # "weights" and, unless weights alone were asked for, "training"
    shards: Iterable[Shard]  # in the order of their trials, read as needed; none where weights alone were asked for
    step: int


class Checkpoints:
    """The checkpoints of one run, in ``folder``; the last ``keep`` and the best are kept. One process writes.

    Of the best only the weights are for use: trials that no other needs are not kept for it.

    ``run`` is what tells the run from others, in JSON's types. A checkpoint of which an entry differs is another run's;
    entries that only one of the two has are those of another release.
    """

    def __init__(self, folder: Path, keep: int, run: Mapping[str, Any] | None = None) -> None:
        if keep < 1:
            raise ValueError(f"at least one checkpoint must be kept, not {keep}")
        self.folder, self.keep = folder, keep
        self.run: dict[str, Any] = json.loads(json.dumps(run or {}))
        self._shards: tuple[ShardEntry, ...] = ()  # of the latest checkpoint, once saved or loaded

    @property
    def n_trials_saved(self) -> int:
        """Number of the trial that the next shard begins with, unless replay has dropped it: 0 before the first."""
        return shards.reached(self._shards)

    def save(
        self,
        state: Mapping[str, State],
        step: int,
        *,
        shard: Shard | None = None,
        oldest_trial: int = 0,
        best: bool = False,
    ) -> None:
        """Make ``state`` the latest checkpoint, and the best one if it is. Later steps, left by a run cut back, go.

        ``state`` has the parts "weights" and "training". ``shard`` holds the trials from ``n_trials_saved`` on; trials
        before ``oldest_trial`` are needed no more. Whatever fails, the latest checkpoint before stays good. Raises
        CheckpointError where the disk refuses or weights are NaN, and TypeError naming the entry that is no tensor,
        number, string, None, list or dict.
        """
        if step < 0:
            raise ValueError(f"steps count from 0; there is no step {step}")
        name = f"step-{step:08d}"
        temporary = self.folder / f"{TEMPORARY}{name}"
        if set(state) != set(PARTS):
            raise ValueError(f"a checkpoint has the parts {', '.join(PARTS)}, not {', '.join(state)}")
        try:
            files = {file: content for part in PARTS for file, content in parts.encode(part, state[part]).items()}
        except ValueError as error:
            raise CheckpointError(f"{self.folder / name} was not saved ({error}); those before it stand") from error
        new, content = shards.encode(shard) if shard and shard.n_trials else (None, b"")
        live = shards.extended(self._shards, new, oldest_trial)
        entries = {file: manifest.describe(written) for file, written in files.items()}
        files[MANIFEST] = manifest.to_bytes(Manifest(step, self.run, entries, live))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.remove_leftovers()
            if new:
                write_atomically(self.folder / REPLAY / new.name, content)
            _write(temporary, files)
            self._install(temporary, name)
            for pointer in (BEST, LATEST) if best else (LATEST,):
                write_atomically(self.folder / pointer, name + "\n")
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise CheckpointError(f"{self.folder / name} was not saved ({error}); those before it stand") from error
        self._shards = live
        self._prune(step)

    def load_latest(self, *, weights_only: bool = False) -> Loaded | None:
        """The latest good checkpoint; None if none was ever saved.

        A damaged one is logged as a warning and the one before is taken. Raises CheckpointError if none is good, or
        if one is another run's or another format's.
        """
        latest = self._pointed(LATEST)
        candidates = self._candidates(latest)
        for name in candidates:
            try:
                loaded, listed = self._load(name, weights_only)
                self._shards = listed.shards
                return loaded
            except DamagedCheckpoint as damage:
                _log.warning("checkpoint refused: %s; trying the one before", damage)
        if not candidates and not os.path.lexists(self.folder / LATEST):
            return None
        raise CheckpointError(
            f"{self.folder}: none of {len(candidates)} checkpoints can be read; "
            "restore one, or start afresh with resume=never"
        )

    def load_best(self, *, weights_only: bool = False) -> Loaded | None:
        """The best checkpoint; None if none was ever marked. Raises CheckpointError if it is damaged."""
        if not os.path.lexists(self.folder / BEST):
            return None
        name = self._pointed(BEST)
        if name is None:
            raise DamagedCheckpoint(f"{self.folder / BEST} names no checkpoint")
        return self._load(name, weights_only)[0]

    def load(self, step: int, *, weights_only: bool = False) -> Loaded:
        """The checkpoint of ``step``. Raises CheckpointError if it is missing or damaged."""
        return self._load(f"step-{step:08d}", weights_only)[0]

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, good or not, in order."""
        return sorted({_step(name) for name in self._names()})

    def remove_leftovers(self) -> None:
        """Remove what saves that were stopped have left. Raises OSError."""
        remove_leftovers(self.folder)
        remove_leftovers(self.folder / REPLAY)

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
        if not os.path.lexists(path):
            return None
        try:
            text = read_bounded(path, 100).decode(errors="replace").strip()
        except (OSError, ValueError) as error:
            _log.warning("%s names no checkpoint (%s); passed over", path, error)
            return None
        if _NAME.fullmatch(text) and not text.endswith(_REPLACED):
            return text
        _log.warning("%s names no checkpoint, but says %r; passed over", path, text)
        return None

    def _load(self, name: str, weights_only: bool) -> tuple[Loaded, Manifest]:
        """Every byte of it checked first. Raises CheckpointError for another run's and for another format."""
        folder, step = self.folder / name, _step(name)
        try:
            listed = self._listed(name)
            self._refuse_other_run(folder, listed)
            wanted, entries = (PARTS[:1], ()) if weights_only else (PARTS, listed.shards)
            state = {part: parts.read(folder, part, listed.files) for part in wanted}
            trials = shards.ShardFiles(self.folder / REPLAY, entries)
            for _ in trials:  # all are checked before the first is taken over
                pass
        except (OSError, *DAMAGE) as error:
            raise DamagedCheckpoint(printable(f"{folder}: {type(error).__name__}: {error}")) from error
        except OtherFormat as other:
            raise CheckpointError(
                f"{folder} has checkpoint format {other.args[0]!r}, this program reads format {FORMAT}: "
                "load it with the release that wrote it, or start afresh with resume=never"
            ) from other
        return Loaded(state, trials if entries else (), step), listed

    def _listed(self, name: str) -> Manifest:
        """The manifest of a checkpoint. Raises OSError, OtherFormat, and what damage raises."""
        listed = manifest.from_bytes(read_bounded(self.folder / name / MANIFEST, manifest.MAX_SIZE))
        if listed.step != _step(name):
            raise ValueError(f"{MANIFEST} is of step {listed.step}")
        return listed

    def _refuse_other_run(self, folder: Path, listed: Manifest) -> None:
        ours, theirs = self.run, listed.run
        differing = [key for key in ours if key in theirs and theirs[key] != ours[key]]
        if differing:
            reason = printable("; ".join(f"{key}={theirs[key]}, not {ours[key]}" for key in differing))
            raise CheckpointError(f"{folder} is a checkpoint of another run ({reason}): take it away")

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
        latest = current[-self.keep :]
        kept = {*latest, self._pointed(BEST)}
        for name in names:
            if name not in kept:
                shutil.rmtree(self.folder / name, ignore_errors=True)  # what stays of it is damaged, and goes next time
        with suppress(OSError):  # a manifest that cannot be read now may be good: no shard goes before it can be
            needed = {shard for name in latest for shard in self._needed(name)}  # of the best, weights alone
            for path in (self.folder / REPLAY).glob("trials-*"):
                if path.name not in needed:
                    remove(path)

    def _needed(self, name: str) -> set[str]:
        """Files of the shards of a checkpoint; of a damaged one, which nothing can load, none."""
        try:
            return {entry.name for entry in self._listed(name).shards}
        except (FileNotFoundError, OtherFormat, *DAMAGE):
            return set()


def _step(name: str) -> int:
    match = _NAME.fullmatch(name)
    assert match, name
    return int(match[1])


def _write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir()
    for name, content in files.items():
        write_durably(folder / name, content)
    sync_folder(folder)
