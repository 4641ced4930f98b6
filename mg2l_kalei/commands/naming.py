"""Parts of files' names that say what an evaluation was made with."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

NAME_SHOWN = 60  # characters of what is compared with, in names of files, which file systems bound


def of_family(env: str | None, settings: Sequence[str]) -> str:
    """Follows the split in names of files: the other family that is played, and its settings; empty: the run's own."""
    if env is None:
        return ""
    shown = [as_name(",".join(sorted(word.removeprefix("--") for word in settings)))] if settings else []
    return "-".join(["-on", env, *shown])


def as_name(words: str) -> str:
    """Part of a file's name, whose length file systems bound: the words, or what can be read of them and a digest."""
    readable = re.sub(r"[^A-Za-z0-9_.=]+", "_", words)[:NAME_SHOWN]
    return words if readable == words else f"{readable}-{digest(words)}"


def digest(meant: object) -> str:
    return hashlib.sha256(json.dumps(meant).encode()).hexdigest()[:6]
