"""Is what an evaluation publishes finite, played as often as it is needed, and never of tasks that were trained on?"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import train
from envs import ENVS
from envs.core import StepResult, Task
from envs.toy import Corners, CornersBatch, CornersConfig
from mg2l_kalei import __main__ as program
from mg2l_kalei.disk import tensor_file
from mg2l_kalei.training import phases, training_run
from tests.small_runs import folder_of, tiny


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)


def spoil_evaluations(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[StepResult], StepResult]) -> None:
    """What environments give is spoilt unless training plays: its batches are made by the phases."""
    step, in_training = CornersBatch.step, set()
    make_env = phases.Workshop.env

    def watched_env(shop: phases.Workshop, stream: str, n_rows: int) -> object:
        made = make_env(shop, stream, n_rows)
        in_training.add(id(made.env))
        return made

    def spoilt_step(env: CornersBatch, action: Tensor) -> StepResult:
        result = step(env, action)
        return result if id(env) in in_training else spoil(result)

    monkeypatch.setattr(phases.Workshop, "env", watched_env)
    monkeypatch.setattr(CornersBatch, "step", spoilt_step)


def with_nan_obs(result: StepResult) -> StepResult:
    return result._replace(obs=torch.full_like(result.obs, math.nan))


def with_nan_reward(result: StepResult) -> StepResult:
    return result._replace(reward=torch.full_like(result.reward, math.nan))


def with_huge_reward(result: StepResult) -> StepResult:
    return result._replace(reward=torch.full_like(result.reward, 3e38))


SPOILT = {"next_obs": with_nan_obs, "reward": with_nan_reward, "returns": with_huge_reward}  # by what is bad first


@pytest.mark.parametrize("eval_interval", [0, 1], ids=["at the end", "while training"])
@pytest.mark.parametrize("name", ["next_obs", "reward", "returns"])
def test_what_is_not_finite_in_an_evaluation_is_not_published(
    name: str,
    eval_interval: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = tiny(tmp_path, algo="mappo", n_iters=2, eval_interval=eval_interval)
    with monkeypatch.context() as patch:
        spoil_evaluations(patch, SPOILT[name])
        assert train.main(words) == 1
    folder = folder_of(words)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {name} has ") and error.endswith(f"the batch is in {folder.bad_batch}")
    assert name in tensor_file.from_bytes(folder.bad_batch.read_bytes())
    assert not folder.evaluation.exists()
    assert train.main(words) == 0  # nothing is lost: the same command evaluates once that is mended


def test_evaluate_publishes_no_nan_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tiny(tmp_path, algo="mappo", n_iters=1)
    assert train.main(words) == 0
    folder = folder_of(words)
    before = {path: path.read_bytes() for path in folder.evaluation.iterdir()}
    capsys.readouterr()
    spoil_evaluations(monkeypatch, with_nan_obs)
    assert program.main(["evaluate", str(folder.path), "trials=3"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: next_obs has ") and "return of episode" not in captured.out
    assert {path: path.read_bytes() for path in folder.evaluation.iterdir()} == before


@pytest.mark.parametrize(
    ("algo", "expected"), [("mg2l_kalei", [False, False, True]), ("mappo", [False, False]), ("oracle", [False, False])]
)
def test_latents_are_sampled_in_reports_alone_and_where_there_are_some(
    algo: str, expected: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[bool] = []
    collect = training_run.assess.__globals__["collect"]

    def watched(*given: object, sample: bool = False, **named: object) -> object:
        played.append(sample)
        return collect(*given, sample=sample, **named)

    monkeypatch.setitem(training_run.assess.__globals__, "collect", watched)
    assert train.main(tiny(tmp_path, algo=algo, n_iters=1)) == 0
    assert played == expected  # one for the choice of the best checkpoint, then the report


# --- weights that were trained elsewhere ------------------------------------------------------------------------------


class HeldOut(Corners):
    """Corners of which one is held out; another seed holds out another."""

    def __init__(self, name: str, config: CornersConfig, generator: np.random.Generator) -> None:
        super().__init__(name, config, generator)
        away = int(generator.integers(len(self.tasks)))
        kept = (task for i, task in enumerate(self.tasks) if i != away)
        self.tasks = (*kept, self._as_test(self.tasks[away]))

    def _as_test(self, task: Task) -> Task:
        return task._replace(split="test")


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int, int]:
    """Two seeds that hold out the same corner, and one that holds out another."""
    monkeypatch.setitem(ENVS, "toy-corners", (HeldOut, ENVS["toy-corners"][1]))
    from mg2l_kalei.seeding import numpy_generator

    away = [int(numpy_generator(seed, "task_draw").integers(4)) for seed in range(20)]
    alike = next(seed for seed in range(1, 20) if away[seed] == away[0])
    other = next(seed for seed in range(1, 20) if away[seed] != away[0])
    return 0, alike, other


def test_weights_that_were_trained_on_held_out_tasks_are_refused_down_the_chain(
    seeds: tuple[int, int, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, alike, other = seeds
    start = tiny(tmp_path, n_iters=1, seed=first)
    assert train.main(start) == 0
    second = tiny(tmp_path, n_iters=1, seed=alike, init_from=folder_of(start).path)
    assert train.main(second) == 0  # the same corner is held out
    capsys.readouterr()
    for source in (start, second):
        third = tiny(tmp_path, n_iters=1, seed=other, init_from=folder_of(source).path)
        assert train.main(third) == 2
        error = capsys.readouterr().err
        assert "was trained on 1 of the 1 held-out tasks of this run" in error and error.count("\n") == 1
        assert not folder_of(third).path.exists()


def test_a_run_that_was_started_so_before_is_not_evaluated(
    seeds: tuple[int, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _, other = seeds
    start = tiny(tmp_path, n_iters=1, seed=first)
    assert train.main(start) == 0
    unfair = tiny(tmp_path, n_iters=1, seed=other, init_from=folder_of(start).path)
    with monkeypatch.context() as patch, contextlib.suppress(KeyError):
        patch.setattr(training_run, "refuse_trained_on", lambda family, ancestors: None)
        assert train.main(unfair) == 0
    capsys.readouterr()
    assert program.main(["evaluate", str(folder_of(unfair).path)]) == 2
    assert "held-out tasks of this run" in capsys.readouterr().err
