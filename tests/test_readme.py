"""Do the README's examples run?"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import mg2l_kalei.__main__ as program
import train
from envs import ENVS
from envs.check import check_family
from mg2l_kalei.encoders import ENCODERS

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = {block.splitlines()[0]: block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)}

USE = "# a trained team in five lines; RUN_DIR is the folder that train.py printed"


def run_block(monkeypatch: pytest.MonkeyPatch, first_line: str, **names: Any) -> dict[str, Any]:
    """What a block of the README defines."""
    module = ModuleType("readme")  # dataclasses look their module up
    module.__dict__.update(names)
    monkeypatch.setitem(sys.modules, "readme", module)
    exec(compile(BLOCKS[first_line], first_line, "exec"), module.__dict__)
    return module.__dict__


@pytest.fixture
def levers(monkeypatch: pytest.MonkeyPatch) -> None:
    family = run_block(monkeypatch, "# envs/levers.py")
    encoder = run_block(monkeypatch, "# mg2l_kalei/encoders/payoff.py")
    monkeypatch.setitem(ENVS, "levers", (family["Levers"], family["LeversConfig"]()))
    monkeypatch.setitem(ENCODERS, "payoff", (encoder["PayoffEncoder"], encoder["PayoffConfig"]()))


def test_examples_take_at_most_40_lines_of_code() -> None:
    for block in BLOCKS.values():
        code = [line for line in block.splitlines() if line.strip() and not line.startswith(("#", "import", "from"))]
        assert len(code) <= 40, block.splitlines()[0]


@pytest.mark.usefixtures("levers")
def test_the_family_of_the_readme_keeps_the_contract() -> None:
    family_class, config = ENVS["levers"]
    assert check_family(family_class("levers", config, np.random.default_rng(0))) == []


@pytest.mark.usefixtures("levers")
def test_family_and_encoder_of_the_readme_train_and_the_run_acts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--algo=mappo", "--env=levers", "encoder=payoff", "n_iters=12", "n_rows=16", f"results_dir={tmp_path}"]
    assert train.main([*words, "trial_steps=20", "actor_lr=5e-3", "eval_trials=8", "eval_interval=0"]) == 0
    (config,) = tmp_path.glob("*/*/*/config.yaml")
    acted = run_block(monkeypatch, USE, RUN_DIR=config.parent)
    assert acted["action"].shape == (4, 2)
    assert acted["action"].dtype == torch.int64


def test_the_pettingzoo_commands_of_the_readme_run(tmp_path: Path) -> None:
    section = README.partition("## Your own environment")[2].replace("\\\n", " ")
    lines = section.partition("```\n")[2].partition("```")[0].splitlines()
    training, checking, evaluating = (shlex.split(line, comments=True) for line in lines)
    here = [word for word in training[2:] if word != "env.n_workers=2"]
    small = "env.episode_steps=4 n_iters=1 n_rows=4 eval_trials=2 learner.n_minibatches=2 context.n_updates=1 "
    small += f"context.n_early_iterations=0 context.length=4 context.batch=4 results_dir={tmp_path}"
    assert train.main([*here, *small.split()]) == 0
    (config,) = tmp_path.glob("*/*/*/config.yaml")
    run = str(config.parent)
    assert program.main([run if word == "RUN_DIR" else word for word in evaluating[3:]] + ["trials=2"]) == 0
    assert program.main(checking[3:]) == 0
