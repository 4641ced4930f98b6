"""Does what a program says do nothing to the terminal, and end nothing where nobody listens?"""

from __future__ import annotations

import io
import sys

import pytest

from mg2l_kalei.disk.output import Nowhere, printable, say


def test_control_characters_are_escaped_and_lines_stay(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\n\x1b[31mred\x1b]0;title\x07 \u202e\x9b é·\r")
    assert capsys.readouterr().out == "a\n\\x1b[31mred\\x1b]0;title\\x07 \\u202e\\x9b é·\\r\n"
    say("\x1b", is_error=True)
    assert capsys.readouterr().err == "\\x1b\n"
    assert printable("\udcff") == "\\udcff"  # of a file's name that is no UTF-8


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


class Closed(Full):
    def flush(self) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    def write(self, text: str) -> int:
        return len(text)


@pytest.mark.parametrize("stream", [Full(), Closed(), None])
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_stream_that_takes_nothing_is_one_warning(
    stream: io.StringIO | None, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, name, stream)
    for _ in range(3):
        say("something", is_error=name == "stderr")
    assert len(caplog.messages) == (stream is not None)
    assert all(f"writing to {name} failed" in message for message in caplog.messages)
    assert stream is None or isinstance(getattr(sys, name), Nowhere)
