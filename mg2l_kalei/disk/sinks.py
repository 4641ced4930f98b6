"""Where metrics go beside ``metrics.jsonl``: one class per sink, and one line in ``SINKS``.

What a sink needs is imported when it is opened: a package that is missing, or fails, is a failure of that sink alone.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from envs.extras import require
from mg2l_kalei.disk.durable import open_unlinked, read_bounded, write_atomically
from mg2l_kalei.disk.run_folder import RunFolder

MAX_SIZE = 1 << 30  # bytes of a metrics.csv that is read
PROJECT = "mg2l_kalei"  # of Weights & Biases
_HEADER = "env_steps,metric,value\n"


class MetricSink(Protocol):
    """Takes scalars that are finite. It may raise whatever it likes: it is closed then, and training goes on."""

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Metrics by path, after ``step`` environment steps."""

    def close(self) -> None:
        """Write out what is pending."""


class Sink(NamedTuple):
    """A kind of sink."""

    what: str  # is written, in words
    open: Callable[[RunFolder, int | None], MetricSink]  # from this step on a resumed run logs anew: files forget it


def _tensorboard(run: RunFolder, purge_step: int | None) -> MetricSink:
    from mg2l_kalei.disk.event_file import EventFile

    return EventFile(run.events, purge_step)


class CsvFile:
    """``metrics.csv``, a line for each metric: environment steps, name, value."""

    def __init__(self, run: RunFolder, purge_step: int | None) -> None:
        lines = read_bounded(run.csv, MAX_SIZE).decode().splitlines(keepends=True)[1:] if run.csv.exists() else []
        if purge_step is not None or not lines:
            kept = [line for line in lines if line.endswith("\n") and int(line.partition(",")[0]) < (purge_step or 0)]
            write_atomically(run.csv, "".join([_HEADER, *kept]))
        self._file = os.fdopen(open_unlinked(run.csv, os.O_WRONLY | os.O_APPEND), "a", newline="")
        self._rows = csv.writer(self._file, lineterminator="\n")

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._rows.writerows((step, name, repr(value)) for name, value in sorted(values.items()))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class WandbRun:
    """A run of Weights & Biases for each session, grouped by the run. Offline, unless ``WANDB_MODE`` says otherwise."""

    def __init__(self, run: RunFolder, purge_step: int | None) -> None:
        require("wandb")
        import wandb

        mode = os.environ.get("WANDB_MODE", "offline")
        quiet = wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True)
        group = "/".join(run.path.resolve().parts[-3:])
        name, config = run.path.resolve().name, _config(run.config)
        run.wandb.mkdir(exist_ok=True)
        self._run = wandb.init(
            project=PROJECT, group=group, name=name, dir=run.wandb, config=config, settings=quiet, mode=mode
        )

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class MlflowRun:
    """A run of MLflow for each session, in an experiment ``<env>/<algo>``.

    They go where ``MLFLOW_TRACKING_URI`` says, or else into files in the run's folder.
    """

    def __init__(self, run: RunFolder, purge_step: int | None) -> None:
        require("mlflow")
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # it asks for a database otherwise
            uri = run.mlflow.resolve().as_uri()
        from mlflow.entities import Metric
        from mlflow.tracking import MlflowClient

        *_, env, algo, name = run.path.resolve().parts
        self._metric, self._client = Metric, MlflowClient(tracking_uri=uri)
        there = self._client.get_experiment_by_name(f"{env}/{algo}")
        experiment = there.experiment_id if there else self._client.create_experiment(f"{env}/{algo}")
        self._id = self._client.create_run(experiment, run_name=name).info.run_id
        for key, value in _config(run.config).items():
            self._client.log_param(self._id, key, value)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        self._client.log_batch(self._id, [self._metric(name, value, now, step) for name, value in values.items()])

    def close(self) -> None:
        self._client.set_terminated(self._id)


SINKS = {
    "tensorboard": Sink("TensorBoard events", _tensorboard),
    "csv": Sink("metrics.csv", CsvFile),
    "wandb": Sink("a run of Weights & Biases", WandbRun),
    "mlflow": Sink("a run of MLflow", MlflowRun),
}


def _config(path: Path) -> dict[str, object]:
    """Settings of the run, by dotted key; none where it has no config."""
    import yaml

    content = yaml.safe_load(read_bounded(path, 1 << 20)) if path.exists() else {}
    flat: dict[str, object] = {}
    for key, value in content.items():
        flat |= {f"{key}.{name}": inner for name, inner in value.items()} if isinstance(value, dict) else {key: value}
    return flat
