"""Do the documentation's commands mean something to the programs, and do those run that take seconds?"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import mg2l_kalei.__main__ as program
import train
from envs import ENVS
from mg2l_kalei.commands.grid import asked
from mg2l_kalei.commands.program import COMMANDS
from mg2l_kalei.config import ConfigError, load
from mg2l_kalei.config.options import read_options
from mg2l_kalei.grid import combinations, planned
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA
from tests.docs.written import DOCS, PAGES, ROOT, code_blocks, commands

FOR = {"ENV": "mpe-spread", "ALGO": "mappo", "SEED": "0", "TRIALS": "4", "SHARING": "full", "WORKERS": "1"}
FOR |= {"FACTORY": "mpe2.simple_tag_v3:parallel_env"}
# What a guide makes, in the plugin ``my_lab``.
LATER = {"--env=levers": "--env=toy-corners", "levers": "toy-corners", "--algo=my_recipe": "--algo=mappo"}
MAKE = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
SMALL = "n_iters=1 n_rows=4 eval_trials=2 learner.n_minibatches=2 context.n_updates=1 context.n_early_iterations=0 "
SMALL += "context.length=4 context.batch=4 n_threads=1"


def ask(words: Sequence[str]) -> None:
    """Have a command parsed by the program that it calls. Raises ConfigError where it makes nothing of it."""
    there = [LATER.get(word, word) for word in words if word != "plugins=my_lab"]
    caller, *rest = (re.sub(r"\b[A-Z]{3,}\b", lambda name: FOR.get(name[0], name[0]), word) for word in there)
    if caller == "mg2l-kalei":
        ask_the_program(rest)
        return
    what, *rest = rest
    if caller == "make":
        assert what in MAKE
    elif what == "train.py":
        load(rest, SCHEMA, CONFIG_DIR)
    elif what == "-m" and rest[0] == "mg2l_kalei":
        ask_the_program(rest[1:])
    elif what == "-m":
        assert rest[0] == "pytest" or find_spec(rest[0]) is not None
    else:
        assert (ROOT / what).is_file()


def ask_the_program(words: Sequence[str]) -> None:
    if not words or words[0] in ("--help", "--version", "COMMAND"):
        return
    command, *rest = words
    if not rest:
        assert command in COMMANDS
        return
    rest = [word for word in rest if word not in ("...", "--help")]
    module, _, name = COMMANDS[command].options.rpartition(".")
    options = getattr(import_module(module), name)
    if command == "tasks":
        if rest[0] == "certify":
            assert LATER.get(rest[1], rest[1]) in ENVS and rest[2:]
            return
        assert rest[0] in ("list", "show", "hash", "check")
        load([f"--env={rest[1]}", *rest[2:]] if len(rest) > 1 else [], SCHEMA, CONFIG_DIR)
    elif command == "grid":
        source, _ = asked(rest)
        assert source == Path("GRID.yaml") or planned(combinations(source))
    elif isinstance(options, type):
        read_options(rest, options())
    else:
        load(rest, SCHEMA, CONFIG_DIR)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page.read_text())], ids=lambda page: page.stem)
def test_every_command_means_something_to_its_program(page: Path) -> None:
    for words in commands(page.read_text()):
        ask(words)


def test_a_command_that_means_nothing_is_found() -> None:
    with pytest.raises(ConfigError, match="n_itres"):
        ask(commands("A command: `python train.py\nn_itres=3`.")[0])
    (words,) = commands("```\npython -m mg2l_kalei evaluate RUN_DIR \\\n    trails=4  # twice\n```")
    with pytest.raises(ConfigError, match="trails"):
        ask(words)


@pytest.mark.slow
def test_the_commands_of_the_guide_to_pettingzoo_run(tmp_path: Path) -> None:
    lines = code_blocks((DOCS / "guides/pettingzoo.md").read_text())[0].replace("\\\n", " ").splitlines()
    training, checking, evaluating = (shlex.split(line, comments=True) for line in lines)
    here = [word for word in training[2:] if word != "env.n_workers=2"]
    assert train.main([*here, "env.episode_steps=4", *SMALL.split(), f"results_dir={tmp_path}"]) == 0
    (config,) = tmp_path.glob("*/*/*/config.yaml")
    run = str(config.parent)
    assert program.main([run if word == "RUN_DIR" else word for word in evaluating[3:]] + ["trials=2"]) == 0
    assert program.main(checking[3:]) == 0


@pytest.mark.slow
def test_the_family_of_the_tutorial_is_sound_and_its_run_draws_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (DOCS / "tutorial.md").read_text()
    (module,) = code_blocks(text, "python")
    (tmp_path / module.splitlines()[0].removeprefix("# ")).write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    checking, training = (words for words in commands(text) if any("my_levers" in word for word in words))
    assert program.main(checking[3:]) == 0
    replaced = {word.partition("=")[0] for word in ("references", *SMALL.split())}
    short = [word for word in training[2:] if word.partition("=")[0] not in replaced]
    assert train.main([*short, *SMALL.split(), f"results_dir={tmp_path}"]) == 0
    assert list(tmp_path.glob("pettingzoo/mg2l_kalei/*/figures/adaptation-train.png"))
