"""Is every metric that runs log described, and every described one logged?"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

import train
from tests.docs.written import DOCS, ROOT
from tests.small_runs import folder_of, tiny

RUNS: dict[str, dict[str, Any]] = {  # between them, every kind that logs anything
    "masks": {"env": "toy-corners", "algo": "mg2l_kalei"},
    "prediction": {"env": "toy-corners", "algo": "mg2l_full", "n_iters": 1, "encoder__prediction_coef": 1.0},
    "rivals": {
        "env": "toy-corners",
        "algo": "mg2l_full",
        "n_iters": 1,
        "encoder__objectives": "[dynamics,classification,local_contrast,trajectory,mixture]",
        "context__order": "trial",
    },
    "groups": {"env": "mpe-spread-roles", "algo": "seps", "n_iters": 1, "sharing__group_updates": 5},
    "values": {"env": "toy-arms", "algo": "mg2l_kalei_qmix", "n_iters": 2},
    "critics": {"env": "toy-corners", "algo": "mg2l_kalei_matd3"},
    "model": {"env": "toy-turns", "algo": "mappo_model", "n_iters": 3, "world_model__members": 2},
    "tokens": {"env": "toy-turns", "algo": "marie_published", "n_iters": 3},
    "memory": {"env": "toy-arms", "algo": "rl2", "n_iters": 1},
}
PLACES = {"K": r"\d+", "I": r"\d+", "J": r"\d+", "STEPS": r"\d+", "SPLIT": "train|test|ood", "NETWORK": "actor|critic"}
PLACES |= {"PART": "environment|acting|inference|update|world_model|imagination", "LEARNED": r"\w+"}


def described() -> list[str]:
    """Names in the first column of the guide's tables."""
    return re.findall(r"^\| `([\w/]+)` \|", (DOCS / "guides/metrics.md").read_text(), re.MULTILINE)


def pattern(name: str) -> str:
    """What fits a described name: capitals stand for numbers and names."""
    return re.sub(r"(?<![A-Z])([A-Z]+)(?![A-Z])", lambda place: f"(?:{PLACES[place[1]]})", name)


def rows_of(words: list[str]) -> list[str]:
    return [name for line in folder_of(words).metrics.read_text().splitlines() for name in json.loads(line)]


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What tiny runs log, and what those in ``assets/results`` had logged in the end."""
    names = {name for path in (ROOT / "assets/results").glob("*-last.json") for name in json.loads(path.read_text())}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)
        for run in RUNS.values():
            words = tiny(tmp_path_factory.mktemp("runs"), **run)
            assert train.main(words) == 0
            names |= set(rows_of(words))
    return names


def test_every_logged_metric_is_described(logged: set[str]) -> None:
    patterns = [pattern(name) for name in described()]
    assert [name for name in sorted(logged) if not any(re.fullmatch(p, name) for p in patterns)] == []


def test_every_described_metric_is_logged(logged: set[str]) -> None:
    assert [p for p in described() if not any(re.fullmatch(pattern(p), name) for name in logged)] == []
    assert len(described()) == len(set(described()))
