"""Signals and a time limit: what is being done is ended in order, in one line and with an exit code of its own.

It imports nothing that takes long: programs listen to signals from their beginning.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

STOPPED = 128  # plus the signal's number: the exit code of what was told to stop
# SIGUSR1 is what batch systems send ahead of the end of a job, SIGALRM what the time limit sends; Windows lacks some.
SIGHUP = getattr(signal, "SIGHUP", None)
_NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGALRM")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


class StopRequested(BaseException):
    """A signal came where nothing is lost by leaving. No Exception: environments may be caught to raise those."""

    is_interruption = True  # no doing of an environment in whose code it is raised (``envs.core.Interruption``)


class StopSignal:
    """In its block, notes a signal, for the run to save and leave; a second one ends the process at once.

    SIGHUP is left alone where it is ignored, as ``nohup`` has it; all are, off the main thread, which alone can hear.
    At the ``deadline``, in seconds of ``time.monotonic``, SIGALRM comes; None: never, nor off
    the main thread, nor on Windows.
    """

    def __init__(self, deadline: float | None = None) -> None:
        self.received = 0
        self._deadline, self._is_timed = deadline, False
        self._outer: float | None = None  # deadline of the block around, whose timer this one's takes the place of
        self._raises = self._leaves = False

    def __enter__(self) -> StopSignal:
        can_hear = threading.current_thread() is threading.main_thread()
        heard = [s for s in SIGNALS if s != SIGHUP or signal.getsignal(s) != signal.SIG_IGN] if can_hear else []
        self._before = {number: signal.signal(number, self._note) for number in heard}
        self._is_timed = self._deadline is not None and can_hear and hasattr(signal, "setitimer")
        if self._is_timed and self._deadline is not None:
            left, _ = signal.setitimer(signal.ITIMER_REAL, max(self._deadline - time.monotonic(), 1e-3))
            self._outer = time.monotonic() + left if left else None
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._outer is not None:
            signal.setitimer(signal.ITIMER_REAL, max(self._outer - time.monotonic(), 1e-3))

    def check(self) -> None:
        """Raises StopRequested where a signal has been received."""
        if self.received:
            raise StopRequested

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """In this block a signal, or one received before, raises StopRequested."""
        self._raises = True
        try:
            self.check()
            yield
        finally:
            self._raises = False

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """In this block a signal ends the process: of imports, which turn exceptions into others, nothing is lost."""
        self._leaves = True
        try:
            yield
        finally:
            self._leaves = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == getattr(signal, "SIGALRM", None):
            return  # a time limit is nobody's second signal: what is being saved is saved
        if self._leaves:
            _tell(number)
        if self.received or self._leaves:
            os._exit(STOPPED + number)
        self.received = number
        if self._raises:
            self.check()


def until_stopped(load: Callable[[], Callable[[Sequence[str]], int]], words: Sequence[str]) -> int:
    """Exit code of the program that ``load`` imports. A signal that it does not answer itself ends it with one line and
    128 + its number."""
    _occupy_standard_streams()
    with StopSignal() as stop:
        with stop.leaving():
            program = load()
        try:
            with stop.at_once():
                return program(words)
        except StopRequested:
            _tell(stop.received)
            return STOPPED + stop.received


def _occupy_standard_streams() -> None:
    """Where the program was begun with one closed, the next file that it opens would take its place, and its output."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free


def _tell(number: int) -> None:
    with suppress(OSError):  # nobody may listen: what ended the process may have closed its terminal
        os.write(2, f"stopped by {signal.Signals(number).name}\n".encode())
