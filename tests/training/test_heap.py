"""Is memory that was freed used again, without asking the system for it?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = """
import resource, sys, torch
from mg2l_kalei.training.heap import keep_freed_memory
torch.set_num_threads(1)
keep_freed_memory()
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [torch.ones(1_000_000) for _ in range(16)]  # 4 MB each
    del kept
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[-1])
"""


def faults(**variables: str) -> int:
    """How many pages the system had to bring, for 64 MB that were there before."""
    clean = {name: value for name, value in os.environ.items() if "MALLOC" not in name and name != "GLIBC_TUNABLES"}
    environment = {**clean, **variables}
    told = subprocess.run([sys.executable, "-c", FAULTS], env=environment, check=True, capture_output=True, text=True)
    return int(told.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_pages_that_were_freed_are_not_asked_for_again() -> None:
    if not os.confstr("CS_GNU_LIBC_VERSION"):
        pytest.skip("no glibc here")
    huge_pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if huge_pages.exists() and "[always]" in huge_pages.read_text():
        pytest.skip("pages are so large that few are asked for")
    assert faults() < 1_000
    for setting in ({"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}):
        assert faults(**setting) > 10_000, "and what the user set is left alone"
