"""How the kernels are compiled, and when what was compiled before is out of date."""

from __future__ import annotations

import os
from pathlib import Path

# Numba also takes settings from a file in the working directory, which may be anybody's: a folder of compiled kernels
# that it names would be loaded, and is code. The environment comes first; empty: beside the modules, as usual.
os.environ.setdefault("NUMBA_CACHE_DIR", "")

from numba import njit

kernel = njit(cache=True)


def forget_outdated(cache: Path, sources: Path) -> None:
    """Remove the indices of compiled kernels in ``cache`` that are older than the newest module in ``sources``.

    Numba compares a kernel with its own file alone, but constants and records of other files are compiled in.
    """
    newest = max(path.stat().st_mtime_ns for path in sources.glob("*.py"))
    for index in cache.glob("*.nbi"):
        if index.stat().st_mtime_ns < newest:
            index.unlink(missing_ok=True)
