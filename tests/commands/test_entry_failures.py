"""Does training that fails, or is told to stop while it is evaluated, end with one line and its exit code?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import train
from envs.core import Refusal
from mg2l_kalei import __main__ as program
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


def test_of_processes_that_are_refused_together_the_first_alone_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")  # as ``torchrun`` sets them
    told = []
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert train.main([*tiny(tmp_path), "gamma=2"]) == 2
        told.append(capsys.readouterr().err.count("gamma=2"))
    assert told == [1, 0]


def test_an_error_of_the_code_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: Any) -> int:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("mg2l_kalei.commands.train.train", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        train.main(tiny(tmp_path))


def test_a_bug_keeps_its_traceback_and_is_not_called_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ValueError that nobody raised to refuse something, wherever it comes from: building a run, or a command."""

    def fail(*given: Any, **named: Any) -> Any:
        raise ValueError("shapes differ")

    monkeypatch.setattr("mg2l_kalei.training.system.make_family", fail)
    for main, words in ((train.main, tiny(tmp_path)), (program.main, ["tasks", "show", "toy-turns"])):
        with pytest.raises(ValueError, match="shapes differ"):
            main(words)


def test_what_is_refused_is_one_line_from_either_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*given: Any, **named: Any) -> Any:
        raise Refusal("n_agents=2 is too many")

    monkeypatch.setattr("mg2l_kalei.training.system.make_family", refuse)
    for main, words in ((train.main, tiny(tmp_path)), (program.main, ["tasks", "show", "toy-turns"])):
        assert main(words) == 2
        assert capsys.readouterr().err == "n_agents=2 is too many\n"
