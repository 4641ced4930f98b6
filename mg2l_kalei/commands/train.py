"""``mg2l-kalei train``, or ``python train.py`` in the clone: from a command line to a trained run."""

from __future__ import annotations

from collections.abc import Sequence

from mg2l_kalei.config import render_sources, request
from mg2l_kalei.disk.output import say
from mg2l_kalei.training.plan import train
from mg2l_kalei.training.plugins import resolve


def train_or_show(words: Sequence[str]) -> int:
    """Exit code 0: done; 1: the run failed; 2: bad input, nothing was done; 128 + signal: stopped and saved."""
    resolved = resolve(words)
    if request(words) == "print-config":
        say(render_sources(resolved))
        return 0
    return train(resolved.config).exit_code
