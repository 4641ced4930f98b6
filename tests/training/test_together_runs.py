"""Does a run of two processes stay in step and go on bit for bit, refuse what does not divide, end when one is lost?"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import train as program
from envs.core import EnvFailure
from mg2l_kalei.acting.collector import collect
from mg2l_kalei.config import run_dir
from mg2l_kalei.disk.checkpoint import Checkpoints
from mg2l_kalei.processes import joined
from mg2l_kalei.training import phases
from mg2l_kalei.training.following import follow
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.training.system import build
from mg2l_kalei.types import Rollout
from tests.small_runs import folder_of, remains, tiny
from tests.torchrun import end, start, train_together
from tests.training.trainers import load_words

DIVISIBLE: dict[str, Any] = {"context__batch": 8, "replay__capacity": 12, "n_rows": 4}


def words_of(results: Path, **settings: Any) -> list[str]:
    return tiny(results, algo="mg2l", **{**DIVISIBLE, "learner__lr_decay": "none", **settings})


def test_weights_and_masks_are_the_same_in_all_processes_and_what_is_lived_through_is_not(tmp_path: Path) -> None:
    words = tiny(tmp_path, sharing__reset_interval=16, **DIVISIBLE)

    def compare() -> int:
        with joined(on_gpu=False) as processes:
            trainer = MetaTrainer(build(load_words(*words), torch.device("cpu"), processes=processes), tmp_path / "bad")
            if processes.rank:
                assert follow(trainer, Checkpoints(tmp_path, 1)) == 0
            else:
                resets = [float(trainer.iterate().get("sharing/reset_weights", 0.0)) for _ in range(3)]
                processes.tell("end", 0)
                assert any(resets)
            networks = (trainer.system.encoder, *trainer.system.learner.networks.values())
            weights = torch.cat([x.double().flatten() for network in networks for x in network.state_dict().values()])
            of_all = processes.gather(weights.unsqueeze(0))
            assert trainer.replay is not None
            _, trials = trainer.replay.since(0)
            obs = processes.gather(trials["obs"].unsqueeze(0))
        assert torch.equal(of_all[0], of_all[1])
        assert not torch.equal(obs[0], obs[1])
        return 0

    assert end(start(2, compare, tmp_path / "log")) == [0, 0], (tmp_path / "log-0").read_text()


@pytest.mark.slow
def test_a_run_goes_on_bit_for_bit_and_only_with_as_many_processes(tmp_path: Path) -> None:
    unbroken, broken = words_of(tmp_path / "whole"), words_of(tmp_path / "parts", n_iters=2)
    log = tmp_path / "log"
    assert end(train_together(2, unbroken, log)) == [0, 0], Path(f"{log}-0").read_text()
    assert end(train_together(2, broken, log)) == [0, 0]
    going_on = words_of(tmp_path / "parts")
    assert end(train_together(1, going_on, log)) == [1]
    assert "this run was begun by 2 processes, not 1" in Path(f"{log}-0").read_text()
    assert end(train_together(2, going_on, log)) == [0, 0], Path(f"{log}-0").read_text()
    assert remains(folder_of(going_on)) == remains(folder_of(unbroken))


def test_rows_that_do_not_divide_are_refused_in_one_line(tmp_path: Path) -> None:
    words = words_of(tmp_path, n_rows=5)
    assert end(train_together(2, words, tmp_path / "log")) == [2, 2]
    assert "n_rows=5 with 2 processes: expected a multiple of 2" in (tmp_path / "log-0").read_text()
    assert not run_dir(load_words(*words)).exists()


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_process_ends_the_run_with_one_line_and_it_goes_on(lost: int, tmp_path: Path) -> None:
    words = words_of(tmp_path, n_iters=100_000, eval_interval=0)
    processes = train_together(2, words, tmp_path / "log")
    checkpoints = folder_of(words).checkpoints
    deadline = time.monotonic() + 60
    while not (checkpoints / "step-00000003").exists():
        assert time.monotonic() < deadline, (tmp_path / "log-0").read_text()
        time.sleep(0.01)
    processes[lost].kill()
    codes = end(processes)
    assert codes[lost] == -signal.SIGKILL and codes[1 - lost] == 1
    said = (tmp_path / f"log-{1 - lost}").read_text().splitlines()
    assert said[-1].startswith("error: another process of this run has ended")
    assert "Traceback" not in "\n".join(said)
    finished = int((checkpoints / "latest").read_text().removeprefix("step-")) + 1
    shorter = words_of(tmp_path, n_iters=finished, eval_interval=0)
    assert end(train_together(2, shorter, tmp_path / "log")) == [0, 0], (tmp_path / "log-0").read_text()


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_in_the_midst_of_an_iteration_ends_all_processes(failing: int, tmp_path: Path) -> None:
    words = words_of(tmp_path)

    def train_and_fail() -> int:
        calls = []

        def play(*given: Any, **settings: Any) -> Rollout:
            calls.append(given)
            if len(calls) > 2 and int(os.environ["RANK"]) == failing:
                raise EnvFailure("the walls came down")
            return collect(*given, **settings)

        phases.collect = play
        return program.main(words)

    started = time.monotonic()
    assert end(start(2, train_and_fail, tmp_path / "log")) == [1, 1]
    assert time.monotonic() - started < 60
    assert (tmp_path / f"log-{failing}").read_text().splitlines()[-1] == "error: the walls came down"
    said = (tmp_path / f"log-{1 - failing}").read_text().splitlines()
    assert said[-1].startswith("error: another process of this run has ended")
