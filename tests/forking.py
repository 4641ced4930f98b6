"""A server of processes: it has everything imported, and each command line becomes a process forked off it.

Requests are JSON lines on standard input. ``{"words": [...], "log": path, "kill_at": n}`` starts ``train.py`` with
these words; the answer is its process number. ``{"wait": number}``: the answer is how it ended, ``-9`` for killed; that
happens to those that take too long.
``kill_at``: the process kills itself before its n-th moment, a call that touches the disk or ends an iteration.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import train
from mg2l_kalei.disk.metric_log import MetricLog
from mg2l_kalei.training import assessment
from mg2l_kalei.training.meta_trainer import MetaTrainer
from tests.small_runs import tiny

MOMENTS = (
    (os, "fsync"),
    (os, "rename"),
    (os, "replace"),
    (shutil, "rmtree"),
    (MetaTrainer, "iterate"),
    (MetricLog, "log"),
)
PATIENCE = 60.0  # seconds that a process is waited for


def run(words: list[str], log: str, kill_at: int) -> None:
    """The forked process, from here to its end; ``log`` gets both of its streams, and the number of moments at last."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    moments = itertools.count(1)

    def watch(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            if next(moments) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        setattr(owner, name, watched)

    for owner, name in MOMENTS:
        watch(owner, name)
    code = train.main(words)
    print(f"{next(moments) - 1} moments", flush=True)
    sys.stderr.flush()
    os._exit(code)


def wait(process: int) -> int:
    """The process's exit code, minus the signal that ended it."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main() -> None:
    assessment.save_picture = lambda path, draw, *others: False
    # A run imports a great deal on its way, which its followers have by this.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        assert train.main(tiny(Path(folder), n_iters=1)) == 0
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = wait(request["wait"])
        else:
            answer = os.fork()
            if answer == 0:
                try:
                    run(**request)
                finally:
                    os._exit(70)  # an exception; else the process would go on here
        print(answer, flush=True)


if __name__ == "__main__":
    main()
