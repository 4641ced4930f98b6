"""Is what must not be compared refused, or told apart by the settings that make it so?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mg2l_kalei import __main__ as program
from tests.evaluation.stored_runs import Make, stored


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"actions": "sampled"}, "actions differs"),
        ({"fingerprint": "others"}, "tasks hash differs"),
        ({"episode_steps": 7}, "episode length"),
        ({"family": "named (full)"}, "family and regime"),
    ],
)
def test_runs_that_must_not_be_compared_are_refused_in_a_line(
    tmp_path: Path, make_result: Make, capsys: pytest.CaptureFixture[str], changed: dict[str, Any], said: str
) -> None:
    stored(tmp_path, make_result, "mappo", 0)
    stored(tmp_path, make_result, "oracle", 0, **changed)
    out = tmp_path / "out"
    assert program.main(["report", str(tmp_path), f"out={out}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and str(next(iter(changed.values()))) in line and not out.exists()


def test_variants_of_a_family_that_are_unlike_have_tables_apart(
    tmp_path: Path, make_result: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path, make_result, "mappo", 0)
    for recipe in ("oracle", "mg2l_kalei"):
        config = stored(tmp_path, make_result, recipe, 0, fingerprint="others") / "config.yaml"
        config.write_text(config.read_text().replace("{kind: named}", "{kind: named, n_agents: 3}"))
    out = tmp_path / "out"
    assert program.main(["report", str(tmp_path), f"out={out}"]) == 0
    assert "3 runs, 2 tables" in capsys.readouterr().out
    titles = [line for line in (out / "report.md").read_text().splitlines() if line.startswith("## ")]
    assert [re.findall("n_agents=(\\w+)", title) for title in titles] == [["null"], ["3"]]
