"""What throughput benchmarks share: sides that play in turn within one run, so that all see the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

ROUNDS = 7
WIDTH = 22  # of a column

Play = Callable[[], int]  # plays a round, and says how many environment steps it made


def print_heading(theirs: str, ours: Sequence[str]) -> None:
    print(f"steps/s (times {theirs}), one thread, median of {ROUNDS} rounds")
    print(f"{'':>16} {theirs:>8}" + "".join(f"{head:>{WIDTH}}" for head in ours))


def print_rates(label: str, theirs: Play, ours: Sequence[Play]) -> None:
    """A line: medians over rounds of steps per second, and of ratios within a round.

    The first play of ours, which may compile, is shown, not counted.
    """
    started = time.perf_counter()
    for play in ours:
        play()
    warm_up = time.perf_counter() - started
    rounds = [[_rate(play) for play in (theirs, *ours)] for _ in range(ROUNDS)]
    line = f"{label:>16} {statistics.median(row[0] for row in rounds):>8,.0f}"
    for place in range(1, 1 + len(ours)):
        rate = statistics.median(row[place] for row in rounds)
        ratio = statistics.median(row[place] / row[0] for row in rounds)
        line += f"{f'{rate:,.0f} ({ratio:,.0f}x)':>{WIDTH}}"
    print(line + f"   first play {warm_up:.0f} s", flush=True)


def _rate(play: Play) -> float:
    started = time.perf_counter()
    n_steps = play()
    return n_steps / (time.perf_counter() - started)
