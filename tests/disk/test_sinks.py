"""Does every sink get what was logged, forget what a resumed run makes again, and never end training?"""

from __future__ import annotations

import csv
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mg2l_kalei.disk.metric_log import MetricLog, read_metrics
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.disk.sinks import SINKS, MetricSink, Sink


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "toy-arms" / "mappo" / "default-s0")
    folder.path.mkdir(parents=True)
    folder.config.write_text("algo: mappo\nlearner:\n  gamma: 0.9\n")
    return folder


def logged(run: RunFolder, *iterations: int, names: list[str], cut_back: int | None = None) -> None:
    log = MetricLog(run, names)
    if cut_back is not None:
        log.cut_back(cut_back)
    for iteration in iterations:
        log.log(100 * iteration, iteration, {"train/return": iteration + 0.125, "train/nan": float("nan")})
    log.close()


def test_csv_holds_exact_values_and_only_the_resumed_run(run: RunFolder) -> None:
    logged(run, 1, 2, 3, names=["csv"], cut_back=0)
    run.csv.write_text(run.csv.read_text() + "400,train/ret")  # cut off by a kill
    logged(run, 2, names=["csv"], cut_back=1)
    logged(run, 3, names=["csv"], cut_back=2)
    rows = list(csv.DictReader(run.csv.open()))
    assert [(int(row["env_steps"]), float(row["value"])) for row in rows] == [(100, 1.125), (200, 2.125), (300, 3.125)]
    assert {row["metric"] for row in rows} == {"train/return"}


def test_only_the_sinks_that_are_wanted_are_written(run: RunFolder) -> None:
    logged(run, 1, names=[])
    assert {path.name for path in run.path.iterdir()} == {"metrics.jsonl", "config.yaml"}
    logged(run, 2, names=["csv"])
    assert run.csv.exists() and not run.events.exists()


@pytest.mark.parametrize("fails_in", ["open", "add", "close"])
def test_a_sink_that_fails_is_one_warning_and_left_alone(
    run: RunFolder, fails_in: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    class Failing:
        def __init__(self, run: RunFolder, purge_step: int | None) -> None:
            self._do("open")

        def add(self, step: int, values: Mapping[str, float]) -> None:
            self._do("add")

        def close(self) -> None:
            self._do("close")

        def _do(self, name: str) -> None:
            calls.append(name)
            if name == fails_in:
                raise RuntimeError("no connection")

    def opened(run: RunFolder, purge_step: int | None) -> MetricSink:
        return Failing(run, purge_step)

    monkeypatch.setitem(SINKS, "failing", Sink("to a failing sink", opened))
    logged(run, 1, 2, names=["failing", "csv"])
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "RuntimeError: no connection" in caplog.text
    expected = {"open": ["open"], "add": ["open", "add", "close"], "close": ["open", "add", "add", "close"]}
    assert calls == expected[fails_in]
    assert len(read_metrics(run.metrics)) == 2 and len(run.csv.read_text().splitlines()) == 3


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_not_there_is_one_warning(
    run: RunFolder, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    logged(run, 1, 2, names=[name])
    assert len(caplog.records) == 1 and f"pip install 'mg2l_kalei[{name}]'" in caplog.text


@pytest.mark.slow
def test_weights_and_biases_takes_a_run_offline(run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("wandb")
    logged(run, 1, 2, names=["wandb"])
    logged(run, 3, names=["wandb"], cut_back=2)
    assert caplog.records == []
    first, second = (path.read_bytes() for path in sorted(run.wandb.rglob("*.wandb"), key=lambda p: p.stat().st_mtime))
    for part in (b"toy-arms/mappo/default-s0", b"learner.gamma", b"train/return"):
        assert part in first, part
    assert [text in first for text in (b"1.125", b"2.125", b"3.125")] == [True, True, False] and b"3.125" in second


@pytest.mark.slow
def test_mlflow_takes_a_run_into_its_folder(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    logged(run, 1, 2, names=["mlflow"])
    assert [record for record in caplog.records if record.name.startswith("mg2l_kalei")] == []
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=run.mlflow.as_uri())
    experiment = client.get_experiment_by_name("toy-arms/mappo")
    (found,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(found.info.run_id, "train/return")
    assert [(metric.step, metric.value) for metric in history] == [(100, 1.125), (200, 2.125)]
    assert found.data.params == {"algo": "mappo", "learner.gamma": "0.9"} and found.info.status == "FINISHED"
