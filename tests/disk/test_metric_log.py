"""Are metrics exact, cut back on resume, and never the end of training?"""

from __future__ import annotations

import builtins
import json
import logging
import math
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mg2l_kalei.disk.metric_log import MetricLog, attempt, read_metrics
from mg2l_kalei.disk.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def logged(run: RunFolder, *iterations: int) -> None:
    log = MetricLog(run)
    for iteration in iterations:
        log.log(100 * iteration, iteration, {"train/return": float(iteration)})
    log.close()


def scalars(run: RunFolder) -> list[tuple[int, float]]:
    """What TensorBoard shows: (step, value) of the return."""
    events = EventAccumulator(str(run.events))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("train/return")]


def test_floats_are_exact_keys_sorted_and_what_is_not_finite_null(run: RunFolder) -> None:
    values = np.random.default_rng(0).normal(size=50) * 10.0 ** np.arange(-25, 25)
    metrics: dict[str, Any] = {f"train/{i}": float(value) for i, value in enumerate(values)}
    odd: dict[str, Any] = {
        "a/nan": math.nan,
        "a/inf": torch.tensor(-math.inf),
        "z/tensor": torch.tensor(0.1),
        "time/seconds": 1,
    }
    MetricLog(run).log(2_000_000_000_000, 7, {**odd, **metrics})
    text = run.metrics.read_text()
    line = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert text.endswith("}\n") and list(line) == sorted(line)
    assert (line.pop("env_steps"), line.pop("iteration")) == (2_000_000_000_000, 7)
    assert line == {**metrics, "a/nan": None, "a/inf": None, "z/tensor": float(torch.tensor(0.1)), "time/seconds": 1.0}


def test_a_resumed_log_equals_one_that_was_never_stopped(run: RunFolder, tmp_path: Path) -> None:
    logged(run, 1, 2, 3, 4)
    log = MetricLog(run)
    log.cut_back(2)
    assert [row["iteration"] for row in read_metrics(run.metrics)] == [1, 2]
    log.close()
    logged(run, 3, 4, 5)
    straight = RunFolder(tmp_path / "straight")
    logged(straight, 1, 2, 3, 4, 5)
    assert run.metrics.read_bytes() == straight.metrics.read_bytes()


def test_tensorboard_shows_only_the_resumed_run(run: RunFolder) -> None:
    logged(run, 1, 2, 3)
    log = MetricLog(run)
    log.cut_back(1)
    log.log(200, 2, {"train/return": -2.0})
    log.close()
    assert scalars(run) == [(100, 1.0), (200, -2.0)]


@pytest.mark.parametrize("elapsed", [0.0, 0.3, -5.0])  # seconds; less than none: the clock was set back
def test_sessions_of_one_second_are_read_in_their_order(
    run: RunFolder, elapsed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Process ids, which the names of TensorBoard's own files go on with, are sorted as texts: 99999 after 100000."""
    times = (1_700_000_000.0 + elapsed * session for session in range(12))
    for session, process in enumerate(range(99_995, 100_007), start=1):
        now = next(times)
        with monkeypatch.context() as patched:
            patched.setattr(time, "time", lambda now=now: now)
            patched.setattr(os, "getpid", lambda process=process: process)
            logged(run, session)
    assert scalars(run) == [(100 * session, float(session)) for session in range(1, 13)]


def test_logging_again_in_a_session_forgets_nothing(run: RunFolder) -> None:
    log = MetricLog(run)
    log.cut_back(0)
    for iteration in (1, 2):
        log.log(100 * iteration, iteration, {"train/return": float(iteration)})
        log.close()
    assert scalars(run) == [(100, 1.0), (200, 2.0)]


def test_a_line_cut_off_by_a_kill_is_dropped_with_a_warning(run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    logged(run, 1, 2)
    content = run.metrics.read_bytes()
    run.metrics.write_bytes(content[:-4])
    MetricLog(run).cut_back(2)
    assert run.metrics.read_bytes() == content.splitlines(keepends=True)[0]
    assert "line 2" in caplog.text


def test_cutting_back_where_nothing_was_logged_makes_no_file(run: RunFolder) -> None:
    MetricLog(run).cut_back(0)
    assert not run.metrics.exists()


def test_cutting_back_tells_how_far_the_lines_reach(run: RunFolder) -> None:
    assert MetricLog(run).cut_back(3) == 0
    logged(run, 1, 2)
    assert [MetricLog(run).cut_back(iteration) for iteration in (5, 1, 0)] == [2, 1, 0]


def test_lines_that_cannot_be_cut_back_are_left_alone_with_a_warning(
    run: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    run.metrics.mkdir(parents=True)
    log = MetricLog(run)
    assert log.cut_back(1) == 0
    log.log(200, 2, {"train/return": 2.0})
    log.close()
    assert [message.split(" failed")[0] for message in caplog.messages] == [f"cutting back {run.metrics}"]
    assert scalars(run) == [(200, 2.0)]


def test_lines_are_not_written_through_a_link(run: RunFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    precious = tmp_path / "precious"
    run.path.mkdir()
    run.metrics.symlink_to(precious)
    logged(run, 1)
    assert not precious.exists() and "metrics.jsonl failed" in caplog.text
    precious.write_text("precious")
    MetricLog(run).cut_back(1)
    logged(run, 1)
    assert precious.read_text() == "precious" and [row["iteration"] for row in read_metrics(run.metrics)] == [1]


def test_what_was_logged_survives_a_kill(run: RunFolder) -> None:
    logged(run, 1)
    child = os.fork()
    if child == 0:
        try:
            MetricLog(run).log(200, 2, {"train/return": 2.0})
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert [row["iteration"] for row in read_metrics(run.metrics)] == [1, 2]
    assert scalars(run) == [(100, 1.0), (200, 2.0)]


def test_a_full_disk_is_a_warning_and_no_line_is_lost_or_glued(
    run: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    log = MetricLog(run)
    log.log(100, 1, {"train/return": 1.0})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (run.metrics.stat().st_size + 5, hard))  # cuts the next line in two
    try:
        log.log(200, 2, {"train/return": 2.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "metrics.jsonl failed" in caplog.text
    log.log(300, 3, {"train/return": 3.0})
    log.close()
    assert "TensorBoard events failed" in caplog.text
    assert [row["iteration"] for row in read_metrics(run.metrics)] == [1, 2, 3]


@pytest.mark.parametrize("failing", ["tensorboard.compat.proto.event_pb2", None])
def test_a_failing_tensorboard_is_one_warning(
    run: RunFolder, failing: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *arguments: Any) -> Any:
        if name == failing:
            raise ImportError(f"no {name}")
        return real_import(name, *arguments)

    monkeypatch.delitem(sys.modules, "mg2l_kalei.disk.event_file", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    if failing is None:
        run.path.mkdir()
        run.events.write_text("a file where the folder should be")
    logged(run, 1, 2, 3)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert [row["train/return"] for row in read_metrics(run.metrics)] == [1.0, 2.0, 3.0]


def test_an_attempt_that_fails_is_one_line_and_an_interrupt_passes(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("first\nsecond")

    with attempt("drawing the masks"):
        fail()
    assert [r.getMessage() for r in caplog.records] == [
        "drawing the masks failed (ValueError: first second); going on without"
    ]
    with pytest.raises(KeyboardInterrupt), attempt("drawing"):
        raise KeyboardInterrupt
