"""Is what must not be compared refused, or told apart by the settings that make it so?"""

from __future__ import annotations

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


def with_env(run: Path, settings: str) -> None:
    """Give a stored run these settings of its family."""
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("{kind: named}", f"{{kind: named, {settings}}}"))


def titles_of(folder: Path) -> list[str]:
    """Of the tables of a report on the runs in a folder."""
    assert program.main(["report", str(folder), f"out={folder / 'out'}"]) == 0
    lines = (folder / "out" / "report.md").read_text().splitlines()
    return [line.removeprefix("## ").partition(",")[0] for line in lines if line.startswith("## ")]


def test_variants_of_a_family_that_are_unlike_have_tables_apart(
    tmp_path: Path, make_result: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path, make_result, "mappo", 0)
    for recipe in ("oracle", "mg2l_kalei"):
        with_env(stored(tmp_path, make_result, recipe, 0, fingerprint="others"), "n_agents: 3, draw: 1")
    name = make_result([0.0, 1.0]).family
    assert titles_of(tmp_path) == [f"{name} env.n_agents=null env.draw=null", f"{name} env.n_agents=3 env.draw=1"]
    assert "3 runs, 2 tables" in capsys.readouterr().out


def test_settings_of_a_family_that_leave_its_tasks_as_they_are_are_compared(tmp_path: Path, make_result: Make) -> None:
    stored(tmp_path, make_result, "mappo", 0)
    with_env(stored(tmp_path, make_result, "oracle", 0), "is_discrete: true")
    with_env(stored(tmp_path, make_result, "mg2l_kalei", 1), "n_agents: 4")  # whose seed nobody shares
    name = make_result([0.0, 1.0]).family
    assert titles_of(tmp_path) == [f"{name} env.n_agents=null", f"{name} env.n_agents=4"]


@pytest.mark.parametrize(
    ("one", "other"), [("x: 1, y: 2", "y: 2, x: 1"), ("x: 3", "x: 3.0"), ("x: null", "y: null")], ids=str
)
def test_no_run_is_lost_whose_settings_are_the_same_though_written_otherwise(
    tmp_path: Path, make_result: Make, capsys: pytest.CaptureFixture[str], one: str, other: str
) -> None:
    with_env(stored(tmp_path, make_result, "mappo", 0), one)
    with_env(stored(tmp_path, make_result, "oracle", 0, fingerprint="others"), other)
    assert program.main(["report", str(tmp_path), f"out={tmp_path / 'out'}"]) == 2
    assert "tasks hash differs" in capsys.readouterr().err


def test_runs_whose_actions_differ_are_refused_whatever_their_family_is_set_to(
    tmp_path: Path, make_result: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path, make_result, "mappo", 0)
    with_env(stored(tmp_path, make_result, "oracle", 0, fingerprint="others", actions="sampled"), "n_agents: 3")
    assert program.main(["report", str(tmp_path), f"out={tmp_path / 'out'}"]) == 2
    assert "actions differs" in capsys.readouterr().err
