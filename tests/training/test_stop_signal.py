"""Does a signal end a program in one line wherever it comes, and is one that is ignored left alone?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import train
from mg2l_kalei.training.stop_signal import StopSignal, until_stopped

ROOT = Path(train.__file__).parent
IMPORTING = """
import sys, train
sys.stdout.write("started")
sys.stdout.flush()
sys.exit(train.main(["--print-config"]))
"""


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_the_program_does_not_answer_is_one_line_and_its_code(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers = [signal.getsignal(s) for s in signal.Signals]

    def program(words: Sequence[str]) -> int:
        try:
            send(number)
        except Exception:
            return 0
        return 1

    assert until_stopped(lambda: program, []) == 128 + number
    assert capfd.readouterr().err == f"stopped by {number.name}\n"
    assert handlers == [signal.getsignal(s) for s in signal.Signals]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_program_is_imported_is_one_line(number: signal.Signals) -> None:
    command = [sys.executable, "-c", IMPORTING]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr and process.stdout.read(7) == "started"
        time.sleep(0.3)
        process.send_signal(number)
        assert process.wait(60) == 128 + number
        assert process.stderr.read() == f"stopped by {number.name}\n" and process.stdout.read() == ""


def test_a_hangup_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with StopSignal() as stop:
            send(signal.SIGHUP)
            assert stop.received == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_output_that_is_closed_is_given_to_nobody_else() -> None:
    """Else the next file that is opened gets its number, and what is printed lands in it."""
    code = (
        "import os, sys; os.close(1); os.close(2)\n"
        "from mg2l_kalei.training.stop_signal import until_stopped\n"
        f"sys.exit(until_stopped(lambda: lambda words: os.open({str(ROOT / 'train.py')!r}, os.O_RDONLY), []))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode > 2


def test_a_time_limit_outlives_another_within_it() -> None:
    """As while another process's reference is trained to its end."""
    deadline = time.monotonic() + 0.2
    with StopSignal(deadline) as outer:
        with StopSignal(deadline + 60):
            pass
        time.sleep(0.4)
        assert outer.received == signal.SIGALRM
        send(signal.SIGALRM)  # while the run saves: it is left to
