"""Do the examples of the guide to Optuna run, and are bad trials pruned?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

optuna = pytest.importorskip("optuna")

GUIDE = (Path(__file__).parents[1] / "docs" / "guides" / "optuna.md").read_text()


PRUNED = 1  # the number of the trial


class Pruner(optuna.pruners.BasePruner):  # type: ignore[name-defined]
    """Prunes one trial, whatever it has learned."""

    def __init__(self, **settings: Any) -> None: ...

    def prune(self, study: Any, trial: Any) -> bool:
        return bool(trial.number == PRUNED)


def test_the_examples_run_and_prune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)
    monkeypatch.setattr(optuna.pruners, "MedianPruner", Pruner)
    small = "n_iters=2 eval_interval=1 n_rows=8 eval_trials=2 eval_episodes=1 network.hidden=[8] n_threads=1 device=cpu"
    names: dict[str, Any] = {"SMALL": [*small.split(), "learner.n_epochs=2", f"results_dir={tmp_path}"]}
    one_run, search = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    exec(one_run, names)
    assert names["result"].iteration == 2 and names["result"].stopped_by is None
    exec(search, names)
    trials = names["study"].trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert [len(trial.intermediate_values) for trial in trials] == [2, 1, 2]
    lengths = [len(path.read_text().splitlines()) for path in tmp_path.glob("toy-arms/mappo/*/metrics.jsonl")]
    assert sorted(lengths) == [1, 2, 2, 2]
