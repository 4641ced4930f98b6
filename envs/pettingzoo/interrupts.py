"""Which of what is raised in an environment's code is its own doing, and which is somebody's who wants to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from envs.core import Interruption


class CtrlC(Interruption, KeyboardInterrupt):
    """Python's own handler raises what an environment may raise too: KeyboardInterrupt."""


def _raise(number: int, frame: FrameType | None) -> None:
    raise CtrlC


@contextmanager
def told_apart() -> Iterator[None]:
    """In this block Ctrl-C raises CtrlC, where it would raise KeyboardInterrupt otherwise."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _raise)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is _raise:  # no other was set meanwhile
            signal.signal(signal.SIGINT, signal.default_int_handler)


def raise_interruption(error: BaseException) -> None:
    """Raise what is no doing of the environment in whose code it was raised."""
    if getattr(error, "is_interruption", False):
        raise error
