"""Does a signal end an evaluation at once, and is the run afterwards as if it had not come?"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import train
from mg2l_kalei.learners.mappo import Mappo
from mg2l_kalei.training import assessment
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.training.training_run import TrainingRun
from tests.envs.pettingzoo_envs import Walk
from tests.small_runs import folder_of, remains, tiny

TERMINATED = 128 + signal.SIGTERM


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingRun, "_finish", lambda self, references, stop: None)


@pytest.fixture
def in_call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Do something at the start of the n-th call of ``owner.name``, counted from now."""

    def arrange(owner: Any, name: str, number: int, act: Callable[[], None]) -> None:
        function, made = getattr(owner, name), 0

        def counting(*arguments: Any, **named: Any) -> Any:
            nonlocal made
            made += 1
            if made == number:
                act()
            return function(*arguments, **named)

        monkeypatch.setattr(owner, name, counting)

    return arrange


def stop_evaluating(words: list[str], in_call: Callable[..., None]) -> None:
    """Begin the run, and stop it within its first evaluation, after its second iteration."""
    in_call(assessment, "collect", 1, terminate)
    assert train.main(words) == TERMINATED
    left = remains(folder_of(words))
    assert [left.step, len(left.metrics)] == ["step-00000002", 1]  # its iteration is logged with its evaluation


def iterations(words: list[str]) -> list[int]:
    return [row["iteration"] for row in remains(folder_of(words)).metrics]


@pytest.mark.usefixtures("no_report")
def test_the_run_is_the_same(tmp_path: Path, in_call: Callable[..., None]) -> None:
    whole, stopped = (tiny(tmp_path / name) for name in ("whole", "stopped"))
    assert train.main(whole) == 0
    stop_evaluating(stopped, in_call)
    assert train.main(stopped) == 0
    assert remains(folder_of(stopped)) == remains(folder_of(whole))


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("settings", [{"eval_interval": 3}, {"eval_interval": 0}, {"n_iters": 5}, {"n_iters": 2}])
def test_it_may_go_on_with_other_evaluations_or_none(
    tmp_path: Path, settings: dict[str, Any], in_call: Callable[..., None]
) -> None:
    stop_evaluating(tiny(tmp_path), in_call)
    words = tiny(tmp_path, **settings)
    assert train.main(words) == 0
    assert iterations(words) == list(range(1, settings.get("n_iters", 4) + 1))


@pytest.mark.usefixtures("no_report")
def test_a_kill_before_the_next_checkpoint_repeats_no_line(
    tmp_path: Path, in_call: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = tiny(tmp_path, checkpoint_interval=100)
    stop_evaluating(words, in_call)
    with monkeypatch.context() as patched, pytest.raises(RuntimeError):
        patched.setattr(MetaTrainer, "note_evaluation", lambda self, evaluated: False)  # the best is saved at once
        patched.setattr(MetaTrainer, "iterate", lambda self: (_ for _ in ()).throw(RuntimeError("killed")))
        train.main(words)
    assert iterations(words) == [1, 2]
    assert train.main(words) == 0
    assert iterations(words) == [1, 2, 3, 4]


@pytest.mark.usefixtures("no_report")
def test_signals_after_an_evaluation_wait_for_the_iteration_again(tmp_path: Path, in_call: Callable[..., None]) -> None:
    whole, stopped = (tiny(tmp_path / name, checkpoint_interval=100) for name in ("whole", "stopped"))
    assert train.main(whole) == 0
    in_call(Mappo, "update", 3, terminate)
    assert train.main(stopped) == TERMINATED
    assert remains(folder_of(stopped)).step == "step-00000003"
    assert train.main(stopped) == 0
    assert remains(folder_of(stopped)) == remains(folder_of(whole))


@pytest.mark.usefixtures("no_report")
def test_environments_may_catch_exceptions(tmp_path: Path, in_call: Callable[..., None]) -> None:
    factory = "tests.envs.pettingzoo_envs:walk"
    words = tiny(tmp_path, "pettingzoo", "mappo", env__factory=factory, n_iters=2)
    in_call(assessment, "collect", 1, lambda: in_call(Walk, "step", 2, terminate))
    assert train.main(words) == TERMINATED
    assert train.main(words) == 0


def test_the_last_evaluation_too(
    tmp_path: Path, in_call: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    words = tiny(tmp_path, n_iters=1)
    in_call(TrainingRun, "_finish", 1, lambda: in_call(assessment, "collect", 1, terminate))
    assert train.main(words) == TERMINATED
    output = capsys.readouterr().out
    assert "stopped and saved at iteration 1" in output and "k = 1" not in output
    assert train.main(words) == 0
    assert "k = 1" in capsys.readouterr().out
