"""Does a NaN stop a run, a held-out task stay out of training, and a picture that fails stay a warning?"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import train
from envs import ENVS
from envs.core import EnvBatch, Observation, Picture, Scene, StepResult
from envs.toy import Corners, CornersConfig, Turns
from mg2l_kalei.config.settings import rules
from mg2l_kalei.disk import tensor_file
from mg2l_kalei.disk.checkpoint import Checkpoints
from mg2l_kalei.disk.finite import NonFiniteError
from mg2l_kalei.disk.metric_log import MetricLog
from mg2l_kalei.encoders.mg2l import Mg2lConfig, Mg2lEncoder
from mg2l_kalei.learners import mappo
from mg2l_kalei.training import assessment, phases, training_run
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.training.system import build
from tests.small_runs import folder_of, tiny
from tests.training.trainers import tiny as tiny_config

STEPS = 4  # of an episode, and of a trial


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)


class Poisoned:
    """A batch in which one value of a record is NaN: that of step 1 (counted from 0) of the second trial."""

    def __init__(self, env: EnvBatch, field: str) -> None:
        self.env, self.spec, self.field = env, env.spec, field
        self.n_steps = 0

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        return self.env.reset(tasks, where)

    def step(self, action: Tensor) -> StepResult:
        result = self.env.step(action)
        self.n_steps += 1
        if self.n_steps == STEPS + 2:
            getattr(result, self.field)[1, 0] = math.nan
        return result

    def scene(self, row: int) -> Scene | Picture | None:
        return self.env.scene(row)


def poison_record(field: str, family: type[Corners | Turns] = Corners) -> Callable[[pytest.MonkeyPatch], None]:
    def arrange(monkeypatch: pytest.MonkeyPatch) -> None:
        make = family.make
        monkeypatch.setattr(family, "make", lambda *arguments: Poisoned(make(*arguments), field))

    return arrange


def in_second_iteration(function: Callable[..., Any], calls_before: int, spoil: Callable[[Any], Any]) -> Any:
    """``function``, its result spoilt after so many calls: those of the first iteration, and a few of the second."""
    n_calls = 0

    def spoiling(*arguments: Any, **named: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        result = function(*arguments, **named)
        return spoil(result) if n_calls > calls_before else result

    return spoiling


def poison_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    spoiling = in_second_iteration(
        mappo.Mappo.act, STEPS + 1, lambda acted: acted._replace(action=acted.action * math.nan)
    )
    monkeypatch.setattr(mappo.Mappo, "act", spoiling)


def poison_value_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    spoiling = in_second_iteration(mappo.clipped_value_loss, 5, lambda loss: loss * math.inf)
    monkeypatch.setattr(mappo, "clipped_value_loss", spoiling)


def poison_encoder_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    spoiling = in_second_iteration(Mg2lEncoder.loss, 2, lambda pair: (pair[0] * math.nan, pair[1]))
    monkeypatch.setattr(Mg2lEncoder, "loss", spoiling)


def poison_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the last loss of the second iteration, so that no loss shows it."""

    def spoil(result: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        result[0].register_hook(lambda gradient: gradient * math.nan)
        return result

    monkeypatch.setattr(mappo, "clipped_surrogate", in_second_iteration(mappo.clipped_surrogate, 7, spoil))


PLACES: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], None], str]] = {
    "obs": ("toy-corners", poison_record("obs"), r"next_obs .* first at \(1, 1, 0"),
    "obs that actions are drawn on": ("toy-turns", poison_record("obs", Turns), r"next_obs .* first at \(1, 1, 0"),
    "state": ("toy-corners", poison_record("state"), r"next_state .* first at \(1, 1, 0"),
    "reward": ("toy-corners", poison_record("reward"), r"reward .* first at \(1, 1, 0"),
    "action": ("toy-corners", poison_actions, r"action .* first at \(1, 0, 0"),
    "loss of the critic": ("toy-corners", poison_value_loss, "train/value_loss "),
    "loss of the encoder": ("toy-corners", poison_encoder_loss, r"encoder/\w+ "),
    "gradient": ("toy-corners", poison_gradients, "train/actor_grad_norm "),
}


POOLINGS = rules(Mg2lConfig)["pooling"].choices or ()


@pytest.mark.parametrize(("place", "pooling"), [*product(PLACES, POOLINGS[:1]), *product(["reward"], POOLINGS[1:])])
def test_a_nan_stops_the_run_by_name_with_the_batch_on_disk_and_the_last_good_checkpoint_kept(
    tmp_path: Path, place: str, pooling: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env, poison, message = PLACES[place]
    words = tiny(tmp_path, env, eval_interval=0, encoder__pooling=pooling)
    poison(monkeypatch)
    assert train.main(words) == 1
    folder = folder_of(words)
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.match(f"error: {message}", error), error
    batch = folder.path / "bad_batch.safetensors"
    assert error.endswith(f"the batch is in {batch}")
    written = tensor_file.from_bytes(batch.read_bytes())
    assert written["obs"].shape[:2] == (STEPS, 4) and "log_prob" in written
    loaded = Checkpoints(folder.checkpoints, 1).load_latest()
    assert loaded is not None and loaded.step == 1


@pytest.mark.parametrize("kind", ["continuous", "marie"])
def test_a_world_model_that_is_spoilt_is_named_before_its_team_acts_in_it(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config("mappo_model", "toy-corners", "world_model.kind=" + kind, "world_model.first_trials=4")
    trainer = MetaTrainer(build(config, torch.device("cpu")), tmp_path / "bad_batch.safetensors")
    model = trainer.system.world_model
    assert model is not None
    trainer.iterate()

    def spoil(*given: Any, **named: Any) -> dict[str, float]:
        with torch.no_grad():
            next(model.network.parameters()).mul_(math.nan)
        return {}

    monkeypatch.setattr(model, "learn", spoil)
    with pytest.raises(NonFiniteError, match=r"^world_model\."):
        trainer.iterate()
    assert trainer.bad_batch.exists()


class HeldOutCorners(Corners):
    """The last corner is held out."""

    def __init__(self, name: str, config: CornersConfig, generator: np.random.Generator) -> None:
        super().__init__(name, config, generator)
        *seen, last = self.tasks
        self.tasks = (*seen, last._replace(split="test"))


class OverlappingCorners(Corners):
    """A held-out task is a training task under another name."""

    def __init__(self, name: str, config: CornersConfig, generator: np.random.Generator) -> None:
        super().__init__(name, config, generator)
        self.tasks = (*self.tasks, self.tasks[0]._replace(name="unseen", split="test"))


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("source", ["online", "replay"])
def test_a_held_out_task_is_neither_trained_on_nor_has_a_say_in_what_is_best(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(ENVS, "toy-corners", (HeldOutCorners, CornersConfig()))
    played: list[int] = []
    assessed: list[tuple[str, int]] = []
    collect, assess = phases.collect, training_run.assess

    def watched_collect(env: EnvBatch, team: Any, task: Tensor, *others: Any, **named: Any) -> Any:
        played.extend(task.tolist())
        return collect(env, team, task, *others, **named)

    def watched_assess(system: Any, env_steps: int, split: str, **named: Any) -> Any:
        assessed.append((split, len(played)))
        return assess(system, env_steps, split, **named)

    monkeypatch.setattr(phases, "collect", watched_collect)
    monkeypatch.setattr(training_run, "assess", watched_assess)
    assert train.main(tiny(tmp_path, context__source=source)) == 0
    assert set(played) == {0, 1, 2}
    while_training = [split for split, n_played in assessed if n_played < len(played)]
    assert while_training == ["train"]
    after = [split for split, n_played in assessed if n_played == len(played)]
    assert after == ["train", "train", "test"]  # to see whether the last is the best, and to report
    out = capsys.readouterr().out
    assert "toy-corners, train tasks: 3 tasks" in out and "toy-corners, test tasks: 1 tasks" in out


def test_a_held_out_task_that_is_trained_on_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(ENVS, "toy-corners", (OverlappingCorners, CornersConfig()))
    assert train.main(tiny(tmp_path / "results")) == 2
    assert "'unseen' = 'corner-1-1'" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def occupy(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "figures").write_text("a file where the folder should be")


@pytest.mark.parametrize("failure", ["drawing", "saving"])
def test_a_picture_that_fails_is_a_warning_and_the_run_ends_well(
    tmp_path: Path,
    failure: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = tiny(tmp_path, n_iters=1)
    folder = folder_of(words)
    if failure == "saving":
        occupy(folder.path)
    else:
        for name in ("adaptation_figure", "task_space_figure", "sharing_figure"):
            monkeypatch.setattr(assessment, name, lambda *given: 1 / 0)
    assert train.main(words) == 0
    warnings = [record.getMessage() for record in caplog.records if "was not written" in record.getMessage()]
    assert [warning.split()[1] for warning in warnings] == ["adaptation-train.png", "task-space-train.png", "masks.png"]
    out = capsys.readouterr().out
    assert "return of episode k" in out and "picture:" not in out
    assert list(folder.evaluation.glob("*.json"))


@pytest.mark.usefixtures("no_pictures")
def test_a_log_that_cannot_be_written_is_a_warning_and_the_run_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: MetricLog, line: str) -> None:
        raise OSError(28, "No space left on device")

    words = tiny(tmp_path, n_iters=2)
    folder = folder_of(words)
    folder.path.mkdir(parents=True)
    folder.events.write_text("a file where the folder should be")
    monkeypatch.setattr(MetricLog, "_write_line", refuse)
    assert train.main(words) == 0
    assert f"writing {folder.metrics} failed" in caplog.text and "writing TensorBoard events failed" in caplog.text


@pytest.mark.usefixtures("no_pictures")
def test_standard_error_that_is_no_terminal_gets_no_carriage_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert train.main(tiny(tmp_path, n_iters=2)) == 0
    captured = capsys.readouterr()
    assert "iteration 2/2" in captured.err
    assert not {"\r", "\x1b"} & {*captured.out, *captured.err}
