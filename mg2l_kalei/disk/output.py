"""What a program says: whatever is in it does nothing to the terminal, and nobody needs to listen."""

from __future__ import annotations

import io
import logging
import sys

_log = logging.getLogger(__name__)


class Nowhere(io.StringIO):
    """A stream that takes everything."""

    def write(self, text: str, /) -> int:
        return len(text)


def say(text: str, *, is_error: bool = False) -> None:
    """Print to standard output, or error. A stream that is closed or full is one warning, and then left alone."""
    name = "stderr" if is_error else "stdout"
    try:
        print(printable(text), file=getattr(sys, name), flush=True)
    except (OSError, ValueError) as error:
        setattr(sys, name, Nowhere())
        _log.warning("writing to %s failed (%s); going on without", name, error)


def printable(text: str) -> str:
    """``text`` with control characters, which could steer a terminal, as escapes; lines stay lines."""
    return "".join(sign if sign.isprintable() or sign == "\n" else ascii(sign)[1:-1] for sign in text)
