"""Does the program name its commands, and is every one of them where the registry has it?"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mg2l_kalei
from mg2l_kalei import __main__ as program
from mg2l_kalei.commands.program import COMMANDS

ROOT = Path(__file__).parents[2]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert [name for name in COMMANDS if f"\n  {name} " not in text] == []
    assert program.main([]) == 2
    assert capsys.readouterr().err == text


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("train", ["--print-config", "learner.gamma", "env=toy-corners", "env=mpe-wind"]),
        ("evaluate somewhere", ["split=", "oracle="]),
        ("render", ["task="]),
        ("tasks", ["tasks check"]),
    ],
)
def test_each_command_says_what_can_be_set(words: str, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([*words.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: mg2l-kalei {words.split()[0]} ")
    assert [option for option in options if option not in text] == []


def test_help_with_choices_shows_what_applies_to_them_and_their_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["train", "--help", "--env=mpe-hunting", "--algo=mappo", "n_rows=7"]) == 0
    text = capsys.readouterr().out
    for line in ("\nenv\n  env=mpe-hunting\n", "    env.n_preys=", "    learner.gamma=", "    n_rows=7  "):
        assert line in text
    for other in ("encoder=mg2l", "env.factory", "sharing=kaleidoscope", "encoder.pooling"):
        assert other not in text
    assert program.main(["train", "--help", "--env=mpe-huntin"]) == 2
    assert "did you mean mpe-hunting?" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_where_the_registry_has_it(name: str) -> None:
    for dotted in (COMMANDS[name].function, COMMANDS[name].options):
        module, _, what = dotted.rpartition(".")
        assert callable(getattr(importlib.import_module(module), what))


NEED_NO_TENSORS = ["--help", "--version", "tasks list", "train --help", "train --help --env=rware-layout --algo=seps"]


@pytest.mark.parametrize("words", [words.split() for words in NEED_NO_TENSORS], ids=" ".join)
def test_what_needs_no_tensors_does_not_wait_for_them(words: list[str]) -> None:
    """Importing torch alone takes two seconds."""
    code = f"import sys; from mg2l_kalei.__main__ import main; main({words}); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_another_package_called_envs_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "__init__.py").touch()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = f"the package envs is found in {tmp_path / 'envs'}, expected {ROOT / 'envs'}: rename"
    for words in (["-m", "mg2l_kalei", "tasks", "list"], ["-c", "from mg2l_kalei import load_run"]):
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == (2 if "-m" in words else 1)
        assert done.stdout == "" and line in done.stderr.splitlines()[-1]


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--version"]) == 0
    assert capsys.readouterr().out == f"mg2l_kalei {mg2l_kalei.__version__}\n"
    assert f"version: {mg2l_kalei.__version__}\n" in (ROOT / "CITATION.cff").read_text()
