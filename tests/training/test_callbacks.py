"""Is training a function that can be called from a program, watched, stopped and gone on with?"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import train as program
from mg2l_kalei import Callback, StopTraining, TrainingEvent, TrainingResult, configure, train
from mg2l_kalei.evaluation.results import AdaptationResult
from tests.small_runs import folder_of, remains, tiny

STOPPED = 143  # as by SIGTERM


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)


class Watcher(Callback):
    """Keeps what it is told, and stops the run once so many iterations are made."""

    def __init__(self, last: int | None = None) -> None:
        self.last = last
        self.told: list[str] = []
        self.events: list[TrainingEvent] = []
        self.results: list[TrainingResult] = []

    def on_iteration(self, event: TrainingEvent) -> None:
        self.told.append(f"iteration {event.iteration}")
        self.events.append(event)
        if event.iteration == self.last:
            raise StopTraining("seen enough")

    def on_evaluation(self, event: TrainingEvent, evaluation: AdaptationResult) -> None:
        self.told.append(f"evaluation {event.iteration}")
        assert (evaluation.split, evaluation.env_steps) == ("train", event.env_steps)
        assert "evaluation/train/return_k0" in event.metrics

    def on_end(self, result: TrainingResult) -> None:
        self.told.append("end")
        self.results.append(result)


def test_callbacks_are_told_what_happens_in_its_order(tmp_path: Path) -> None:
    config = configure(*tiny(tmp_path, n_iters=3))
    watcher = Watcher()
    result = train(config, [watcher])
    assert watcher.told == ["iteration 1", "evaluation 2", "iteration 2", "evaluation 3", "iteration 3", "end"]
    assert watcher.results == [result]
    first, *_, last = watcher.events
    assert (first.iteration, first.n_iters, last.env_steps, last.total_env_steps) == (1, 3, 48, 48)
    assert (result.exit_code, result.stopped_by, result.iteration, result.env_steps) == (0, None, 3, 48)
    assert result.metrics == last.metrics and last.folder == result.folder
    assert {split: found.returns.shape for split, found in result.evaluations.items()} == {"train": (4, 2, 2)}
    again = train(config, [watcher])
    assert again.metrics == result.metrics and watcher.told[-1:] == ["end"] and len(watcher.events) == 3


@pytest.mark.parametrize("iteration", [1, 4])  # 4: an evaluation has been made
def test_a_run_that_a_callback_stopped_goes_on_bit_for_bit(tmp_path: Path, iteration: int) -> None:
    whole, halved = (tiny(tmp_path / name, checkpoint_interval=3) for name in ("whole", "halved"))
    assert program.main(whole) == 0
    watcher = Watcher(last=iteration)
    stopped = train(configure(*halved), [watcher])
    assert (stopped.exit_code, stopped.stopped_by, stopped.iteration) == (STOPPED, "seen enough", iteration)
    assert stopped.evaluations == {} and watcher.told[-1] == "end"
    assert program.main(halved) == 0
    assert remains(folder_of(halved)) == remains(folder_of(whole))


def test_a_callback_that_raises_anything_else_is_a_bug_and_keeps_its_traceback(tmp_path: Path) -> None:
    class Broken(Callback):
        def on_iteration(self, event: TrainingEvent) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(configure(*tiny(tmp_path)), [Broken()])


def test_off_the_main_thread_signals_are_left_alone_and_the_run_is_the_same(tmp_path: Path) -> None:
    inside, beside = (tiny(tmp_path / name, n_iters=2) for name in ("inside", "beside"))
    results: list[TrainingResult] = []
    thread = threading.Thread(target=lambda: results.append(train(configure(*beside))))
    thread.start()
    thread.join()
    assert program.main(inside) == 0
    assert results[0].exit_code == 0
    assert remains(folder_of(beside)) == remains(folder_of(inside))
