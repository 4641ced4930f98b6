"""Does training that fails, or is told to stop while it is evaluated, end with one line and its exit code?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import train
from tests.small_runs import tiny


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 80 GB")])
def test_too_little_memory_is_one_line_and_a_failure(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(config: Any) -> int:
        raise error

    monkeypatch.setattr("mg2l_kalei.commands.train.train", fail)
    assert train.main(tiny(tmp_path)) == 1
    assert capsys.readouterr().err == "error: out of memory: fewer n_rows, or a smaller replay.capacity, need less\n"


def test_an_error_of_the_code_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: Any) -> int:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("mg2l_kalei.commands.train.train", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        train.main(tiny(tmp_path))
