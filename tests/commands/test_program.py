"""Does the program name its commands, and is every one of them where the registry has it?"""

from __future__ import annotations

import importlib

import pytest

from mg2l_kalei import __main__ as program
from mg2l_kalei.commands.program import COMMANDS


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert [name for name in COMMANDS if f"\n  {name} " not in text] == []
    assert program.main([]) == 2
    assert capsys.readouterr().err == text


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("train", ["--print-config", "learner.gamma"]),
        ("evaluate", ["split=", "oracle="]),
        ("render", ["task="]),
        ("tasks", ["tasks check"]),
    ],
)
def test_each_command_says_what_can_be_set(name: str, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([name, "somewhere", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: mg2l-kalei {name} ")
    assert [option for option in options if option not in text] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_where_the_registry_has_it(name: str) -> None:
    command = COMMANDS[name]
    module = importlib.import_module(command.module)
    assert callable(getattr(module, command.function)) and callable(getattr(module, command.options))
