"""What tests of environments share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in: MuJoCo writes its warnings to a file wherever it runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
