"""Processes that train together, forked off the test: as ``torchrun`` starts them, without the seconds of imports."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

import train
from mg2l_kalei.training import assessment

FORK = multiprocessing.get_context("fork")
PATIENCE = 60.0  # seconds


def start(n: int, do: Callable[[], int], log: Path) -> list[BaseProcess]:
    """``do`` in n processes, which end with what it returns; what each says is in ``<log>-<rank>``."""
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        port = taken.getsockname()[1]
    processes: list[BaseProcess] = [
        FORK.Process(target=_run, args=(rank, n, port, do, f"{log}-{rank}")) for rank in range(n)
    ]
    for process in processes:
        process.start()
    return processes


def end(processes: list[BaseProcess]) -> list[int | None]:
    """Exit codes, once all have ended; None: it had not in time, and was killed."""
    for process in processes:
        process.join(PATIENCE)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


def train_together(n: int, words: list[str], log: Path) -> list[BaseProcess]:
    """``torchrun --nproc-per-node=n train.py WORDS``; pictures are left out."""
    return start(n, lambda: train.main(words), log)


def _run(rank: int, n: int, port: int, do: Callable[[], int], log: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    torch.set_num_threads(1)
    assessment.save_picture = lambda path, draw, *others: False
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": n, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in ranks.items()})
    os.environ.update(TORCHELASTIC_RUN_ID="test", MASTER_ADDR="localhost")
    code = do()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
