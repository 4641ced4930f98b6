"""Files that are there whole or not at all, whatever stops the program: power loss included. Links are not followed.

What is read may come from a stranger: a pipe or a device in a file's place is refused, and so is what has no end.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SAFE = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC")  # no links, no waiting for a pipe's end, not inherited
TEMPORARY = "tmp-"  # prefix of what is being written; whoever owns the folder may remove leftovers


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A free name beside ``path``; the file that the block writes there takes the place of ``path``. Makes the folder.

    Readers see the old file or the new. A link at ``path`` is replaced, and what it points at left alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}.part")  # no *.json, *.png of anybody's
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace ``path`` by ``content`` (text: UTF-8), durably: readers see the old content or the new, never a part."""
    with replacing(path) as temporary:
        write_durably(temporary, content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` by ``value`` as indented JSON, atomically. Raises ValueError for NaN and infinities."""
    write_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file and wait until it is on the disk. Not atomic. Raises FileExistsError where there is one."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def open_unlinked(path: Path, flags: int) -> int:
    """Descriptor of a file that is no link, which the system need not be able to refuse by itself. Raises OSError."""
    if not hasattr(os, "O_NOFOLLOW") and path.is_symlink():
        raise OSError(f"{path} is a link: put the file in its place")
    for name in _SAFE:
        flags |= getattr(os, name, 0)
    return os.open(path, flags, 0o666)


def sync_folder(folder: Path) -> None:
    """Wait until names made, renamed and removed in ``folder`` are on the disk; Windows opens no folders."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove what writes that were stopped have left in ``folder``; its owner alone may call this."""
    for path in folder.glob(f"{TEMPORARY}*"):
        remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def read_bounded(path: Path, limit: int) -> bytes:
    """Content of a regular file of at most ``limit`` bytes. Raises OSError, or ValueError where it is another thing."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is no regular file")
    if status.st_size > limit:
        raise ValueError(f"{path} has {status.st_size} bytes, and {limit} at most are read")
    with path.open("rb") as file:
        return file.read(limit + 1)
