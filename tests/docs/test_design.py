"""Does the page on the design name every part of the package, and every command?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mg2l_kalei
from mg2l_kalei.commands.program import COMMANDS
from tests.docs.written import DOCS

PACKAGE = Path(mg2l_kalei.__file__).parent
FOLDERS = sorted(path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.glob("*/**/__init__.py"))


@pytest.fixture(scope="module")
def page() -> str:
    return (DOCS / "design.md").read_text()


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_of_the_package_is_on_the_map(folder: str, page: str) -> None:
    assert f"`{folder}/`" in page or f"`mg2l_kalei/{folder}/`" in page


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_on_the_map(command: str, page: str) -> None:
    (row,) = (line for line in page.splitlines() if "`commands/`" in line)
    assert re.search(rf"\b{command}\b", row)
