"""Is a line of the evaluation what it is called?"""

from __future__ import annotations

from pathlib import Path

import pytest

import train
from mg2l_kalei import __main__ as program
from tests.small_runs import folder_of, tiny


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By recipe, without references of their own; tests must not write to them."""
    place = tmp_path_factory.mktemp("runs")
    words = {algo: tiny(place / algo, algo=algo, n_iters=1) for algo in ("mg2l_full", "mappo", "oracle", "rl2")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)
        assert [train.main(line) for line in words.values()] == [0] * 4
    return {algo: folder_of(line).path for algo, line in words.items()}


def test_memory_alone_is_a_line_beside_none_and_oracle(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    lines = [f"none={runs['mappo']}", f"oracle={runs['oracle']}", f"rl2={runs['rl2']}"]
    assert program.main(["evaluate", str(runs["mg2l_full"]), *lines]) == 0
    starts = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert {"mg2l_full", "none", "oracle", "rl2"} <= set(starts)


def test_a_run_under_the_name_of_a_line_that_it_is_not_is_refused(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for line, wrong in (("rl2", "oracle"), ("rl2", "mappo"), ("none", "rl2"), ("none", "oracle"), ("oracle", "mappo")):
        capsys.readouterr()
        assert program.main(["evaluate", str(runs["mg2l_full"]), f"{line}={runs[wrong]}"]) == 2
        shown = capsys.readouterr()
        assert shown.out == "" and shown.err.startswith(f"command line: {line}={runs[wrong]}: has encoder.kind=")
        assert shown.err.count("\n") == 1


def test_a_run_is_no_line_beside_itself(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert program.main(["evaluate", str(runs["rl2"]), f"rl2={runs['rl2']}"]) == 2
    assert "it cannot be the line rl2 as well" in capsys.readouterr().err


def test_all_that_is_wrong_is_told_together(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    wrong = ["split=tests", "trails=4", "episodes=0", f"rl2={runs['mappo']}", "oracle=nowhere", "beside=neither"]
    assert program.main(["evaluate", str(runs["mg2l_full"]), *wrong]) == 2
    shown = capsys.readouterr()
    told = [
        "trails=4: no such option",
        "episodes=0: expected",
        "split=tests: ",
        "oracle",
        "has encoder.kind=",
        "neither",
    ]
    lines = shown.err.splitlines()
    assert shown.out == "" and len(lines) == len(told)
    assert all(part in line for part, line in zip(told[:3], lines[:3], strict=True)), shown.err
    assert all(any(part in line for line in lines[3:]) for part in ("nowhere", "has encoder.kind=", "neither")), (
        shown.err
    )
    assert program.main(["evaluate", "nowhere", "neither", "split=tests"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2  # what cannot be read has no splits to be wrong about


def test_a_reference_whose_results_cannot_be_written_does_not_keep_the_run_from_being_trained(tmp_path: Path) -> None:
    reference, run = (tiny(tmp_path, algo=algo, n_iters=1) for algo in ("mappo", "mg2l_full"))
    place = folder_of(reference)
    place.path.mkdir(parents=True)
    place.evaluation.write_text("in the way")
    assert train.main([*run, "references=true"]) == 1
    assert any(folder_of(run).evaluation.iterdir())
