"""A configuration folder to change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.toy_schema import RECIPE, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration folder with two recipes and an empty default experiment."""
    files = {
        "algo/mg2l_kalei": RECIPE,
        "algo/plain": "encoder: none\nsharing: full\nlearner: qmix\n",
        "expt/default": "",
    }
    for name, text in files.items():
        write(tmp_path / "config", name, text)
    return tmp_path / "config"
