"""Does the tutorial's notebook run from top to bottom?"""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.docs.written import DOCS, ROOT

NOTEBOOK = DOCS / "tutorial.ipynb"


@pytest.mark.slow
def test_the_notebook_runs_and_its_team_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    check = "assert reward[-20:].mean() > 2 * reward[0].mean(), (reward[0].mean(), reward[-20:].mean())"
    notebook.cells.append(nbformat.v4.new_code_cell(check))
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = [out for cell in notebook.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    assert len(pictures) == 3


def test_the_notebook_holds_no_output_of_one_machine() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert [cell.source for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
