"""Do the commands of the documentation run? Its examples in Python are run by test_guides.py."""

from __future__ import annotations

import shlex
from pathlib import Path

import mg2l_kalei.__main__ as program
import train

GUIDE = (Path(__file__).parents[1] / "docs/guides/pettingzoo.md").read_text()


def test_the_commands_of_the_guide_to_pettingzoo_run(tmp_path: Path) -> None:
    lines = GUIDE.replace("\\\n", " ").partition("```\n")[2].partition("```")[0].splitlines()
    training, checking, evaluating = (shlex.split(line, comments=True) for line in lines)
    here = [word for word in training[2:] if word != "env.n_workers=2"]
    small = "env.episode_steps=4 n_iters=1 n_rows=4 eval_trials=2 learner.n_minibatches=2 context.n_updates=1 "
    small += f"context.n_early_iterations=0 context.length=4 context.batch=4 results_dir={tmp_path}"
    assert train.main([*here, *small.split()]) == 0
    (config,) = tmp_path.glob("*/*/*/config.yaml")
    run = str(config.parent)
    assert program.main([run if word == "RUN_DIR" else word for word in evaluating[3:]] + ["trials=2"]) == 0
    assert program.main(checking[3:]) == 0
