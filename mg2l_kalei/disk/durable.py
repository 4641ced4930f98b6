"""Files that are there whole or not at all, whatever stops the program: power loss included."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

TEMPORARY = "tmp-"  # prefix of what is being written; whoever owns the folder may remove leftovers


def write_atomically(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` (UTF-8): readers see the old content or the new, never a part. Makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        write_durably(temporary, text.encode())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` by ``value`` as indented JSON, atomically. Raises ValueError for NaN and infinities."""
    write_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_durably(path: Path, content: bytes) -> None:
    """Write ``content`` and wait until it is on the disk. Not atomic."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until names made, renamed and removed in ``folder`` are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
