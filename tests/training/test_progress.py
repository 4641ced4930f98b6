"""Does the display say what is true, and keep carriage returns out of log files?"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pty

import pytest

from mg2l_kalei.training.progress import Progress


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def shown(total: int, seconds_per_iteration: float, done: int = 0) -> list[str]:
    """Lines of a run from iteration ``done`` to its end, 50 environment steps each, without a terminal."""
    stream, clock = io.StringIO(), Clock()
    with Progress(total, 50, done=done, stream=stream, clock=clock) as progress:
        for iteration in range(done + 1, total + 1):
            clock.now += seconds_per_iteration
            progress.update(iteration, episode_return=-1.5)
    text = stream.getvalue()
    assert "\r" not in text and "\x1b" not in text
    return text.splitlines()


def test_a_fast_run_gives_a_line_per_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as some CI systems set it
    lines = shown(1000, 0.001)
    assert len(lines) == 10
    assert lines[1] == "iteration 200/1000 (20 %), 50,000 env steps/s, 0:00:01 left, return -1.5"
    assert lines[-1].startswith("iteration 1000/1000 (100 %)")


def test_a_slow_run_gives_a_line_every_ten_seconds() -> None:
    lines = shown(20, 4.0)
    assert [line.split()[1] for line in lines][:4] == ["2/20", "4/20", "6/20", "8/20"]
    assert len(shown(1000, 5.0)) >= 500


def test_rate_and_time_left_are_of_this_session() -> None:
    lines = shown(100, 2.0, done=90)
    assert lines[0] == "iteration 95/100 (95 %), 25 env steps/s, 0:00:10 left, return -1.5"


def test_a_terminal_gets_a_bar() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream, Progress(10, 50, stream=stream) as progress:
        progress.update(5, 2.0)
    written = b""
    with contextlib.suppress(OSError):  # a terminal whose other side is closed ends in an error
        while piece := os.read(ours, 1 << 16):
            written += piece
    os.close(ours)
    assert b"\r" in written and b"5/10" in written


def test_a_stream_that_fails_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError("gone")

    with Progress(1, 50, stream=Broken()) as progress:
        progress.update(1)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
