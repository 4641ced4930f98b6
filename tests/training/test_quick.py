"""Does the first command of the README show what the project is for?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import train
from mg2l_kalei.evaluation.results import AdaptationResult, from_json
from mg2l_kalei.evaluation.statistics import adaptation_score


def the_result(results: Path, algo: str) -> AdaptationResult:
    (path,) = results.glob(f"toy-corners/{algo}/*/evaluation/train-*.json")
    return from_json(path.read_text())


@pytest.mark.slow
def test_the_quick_experiment_adapts_and_draws_it(tmp_path: Path) -> None:
    assert train.main(["--expt=quick", f"results_dir={tmp_path}"]) == 0
    run, none, oracle = (the_result(tmp_path, algo).returns[None] for algo in ("mg2l_kalei", "mappo", "oracle"))
    score = adaptation_score(run, none, oracle, np.random.default_rng(0))
    assert score.has_gap.all()
    assert score.score.value[1:].min() >= 0.5
    assert len(list(tmp_path.glob("toy-corners/mg2l_kalei/*/figures/*.png"))) == 3
