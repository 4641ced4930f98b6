"""Is a run the same however it is interrupted, and does it stop, go on and refuse as promised?"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import train
from mg2l_kalei.disk.checkpoint import Checkpoints
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.training.saved_run import load_run
from mg2l_kalei.training.training_run import TrainingRun
from mg2l_kalei.types import Metrics, State
from tests.small_runs import files_in, folder_of, remains, tiny
from tests.training.trainers import OF_RECIPES, toy_of

TERMINATED = 128 + signal.SIGTERM
VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    " replay": {"context__source": "replay"},
    " recurrent": {"network__memory": "episode"},
}
RECIPES = [*OF_RECIPES, "mg2l_kalei replay", "mg2l_kalei recurrent"]
ENVS = ["toy-turns", pytest.param("toy-corners", marks=pytest.mark.slow)]  # which differ in actions alone


@pytest.fixture(autouse=True)
def no_report(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The evaluation at the end changes nothing in training, and takes longer than it; ``reported`` tests want it."""
    if "reported" not in request.fixturenames:
        monkeypatch.setattr(TrainingRun, "_finish", lambda self, references, stop: None)


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables without pictures."""
    monkeypatch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)


@pytest.fixture
def after_iteration(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """Do something at the end of a run's n-th iteration, counted from now."""

    def arrange(number: int, act: Callable[[], None]) -> None:
        iterate, made = MetaTrainer.iterate, 0

        def counting(trainer: MetaTrainer) -> Metrics:
            nonlocal made
            metrics = iterate(trainer)
            made += 1
            if made == number:
                act()
            return metrics

        monkeypatch.setattr(MetaTrainer, "iterate", counting)

    return arrange


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def break_off() -> None:
    raise KeyboardInterrupt


def forbid(trainer: MetaTrainer) -> Metrics:
    raise AssertionError("trained on")


@pytest.mark.parametrize("env", ENVS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_two_iterations_and_two_after_a_stop_equal_four_in_one_go(
    tmp_path: Path, env: str, recipe: str, after_iteration: Callable[..., None]
) -> None:
    algo, variant, name = recipe.partition(" ")
    env = toy_of(algo) if env == "toy-corners" else env
    settings = VARIANTS[variant + name]
    whole, halved = (tiny(tmp_path / name, env, algo, **settings) for name in ("whole", "halved"))
    assert train.main(whole) == 0
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    after_iteration(2, terminate)
    assert train.main(halved) == TERMINATED
    assert remains(folder_of(halved)).step == "step-00000002"
    assert train.main(halved) == 0
    assert remains(folder_of(halved)) == remains(folder_of(whole))
    assert len(remains(folder_of(whole)).metrics) == 4
    assert handlers == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


def test_iterations_lost_between_checkpoints_are_made_again_with_the_same_result(
    tmp_path: Path, after_iteration: Callable[..., None]
) -> None:
    whole, broken = (tiny(tmp_path / name, n_iters=5, checkpoint_interval=2) for name in ("whole", "broken"))
    assert train.main(whole) == 0
    after_iteration(4, break_off)
    with pytest.raises(KeyboardInterrupt):
        train.main(broken)
    assert [remains(folder_of(broken)).step, len(remains(folder_of(broken)).metrics)] == ["step-00000002", 3]
    assert train.main(broken) == 0
    assert remains(folder_of(broken)) == remains(folder_of(whole))


def test_one_seed_has_one_result_and_another_seed_another(tmp_path: Path) -> None:
    runs = [tiny(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert [train.main(words) for words in runs] == [0, 0, 0]
    first, same, other = (remains(folder_of(words)) for words in runs)
    assert first == same
    assert first.tensors != other.tensors
    for name in ("train/episode_return", "train/value_loss", "encoder/loss"):
        assert not {row[name] for row in first.metrics} & {row[name] for row in other.metrics}, name


def test_a_stop_between_checkpoints_saves_where_it_is(tmp_path: Path, after_iteration: Callable[..., None]) -> None:
    words = tiny(tmp_path, checkpoint_interval=100, eval_interval=0)
    after_iteration(3, terminate)
    assert train.main(words) == TERMINATED
    assert Checkpoints(folder_of(words).checkpoints, 1).steps()[-1] == 3


@pytest.mark.usefixtures("reported")
def test_a_finished_run_prints_its_table_again_and_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tiny(tmp_path)
    assert train.main(words) == 0
    tables = [capsys.readouterr().out.partition("\n")[2]]
    files = files_in(folder_of(words).path)
    monkeypatch.setattr(MetaTrainer, "iterate", forbid)
    assert train.main(words) == 0
    tables.append(capsys.readouterr().out.partition("\n")[2])
    assert tables[0] == tables[1]
    assert "toy-corners, seen tasks: 4 tasks x 2 trials, 2 episodes" in tables[0]
    assert files_in(folder_of(words).path) == files


def test_more_iterations_extend_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = tiny(tmp_path, n_iters=2)
    assert train.main(words) == 0
    before = remains(folder_of(words)).metrics
    longer = tiny(tmp_path, n_iters=3)
    assert train.main(longer) == 0
    assert "going on from iteration 2 of 3" in capsys.readouterr().out
    after = remains(folder_of(longer)).metrics
    assert after[:2] == before and len(after) == 3


def test_fewer_iterations_than_there_are_change_nothing_and_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tiny(tmp_path, n_iters=2)
    assert train.main(words) == 0
    assert train.main(tiny(tmp_path, n_iters=1)) == 0
    assert "warning: n_iters=1, but this run has 2" in capsys.readouterr().err


def damage(folder: RunFolder) -> None:
    for file in folder.checkpoints.glob("step-*/training.safetensors"):
        file.write_bytes(file.read_bytes()[:-1])


def forget_checkpoints(folder: RunFolder) -> None:
    for file in sorted(folder.checkpoints.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()


@pytest.mark.parametrize("harm", [damage, forget_checkpoints, lambda folder: folder.config.unlink()])
def test_a_run_that_lost_its_checkpoints_or_config_is_an_error_with_a_way_out(
    tmp_path: Path,
    harm: Callable[[RunFolder], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = tiny(tmp_path, n_iters=2)
    assert train.main(words) == 0
    harm(folder_of(words))
    left = files_in(folder_of(words).path)
    monkeypatch.setattr(MetaTrainer, "iterate", forbid)
    assert train.main(words) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and str(folder_of(words).path) in error and "resume=never" in error
    assert files_in(folder_of(words).path) == left


def test_resume_never_sets_the_old_run_aside_and_starts_afresh(tmp_path: Path) -> None:
    words = tiny(tmp_path, n_iters=1)
    path = folder_of(words).path
    assert train.main(words) == 0
    old = files_in(path)
    for number in (1, 2):
        assert train.main([*words, "resume=never"]) == 0
        assert path.with_name(f"{path.name}.old{number}").is_dir()
    assert files_in(path.with_name(f"{path.name}.old1")) == old
    assert remains(folder_of(words)).step == "step-00000001"


def optimisers(training: State) -> list[State]:
    """Those of the actors, of the critic and of the encoder."""
    return [*(training["learner"][name]["adam"] for name in ("actor", "critic")), training["phases"]["infer"]]


def test_init_from_gives_a_new_run_the_networks_of_another(
    tmp_path: Path, after_iteration: Callable[..., None]
) -> None:
    source = tiny(tmp_path, n_iters=2)
    assert train.main(source) == 0
    path = folder_of(source).path
    words = tiny(tmp_path, seed=5, init_from=path)
    after_iteration(1, break_off)
    with pytest.raises(KeyboardInterrupt):
        train.main(words)
    given, taken = (Checkpoints(folder_of(w).checkpoints, 1).load_latest() for w in (source, words))
    assert given and taken
    weights, new_weights = given.state["weights"], taken.state["weights"]
    assert new_weights["iteration"] == new_weights["env_steps"] == 0
    for part in ("actor", "critic"):
        for name, tensor in weights["learner"][part].items():
            assert tensor.equal(new_weights["learner"][part][name]), name
    assert all(tensor.equal(new_weights["encoder"][name]) for name, tensor in weights["encoder"].items())
    for trained, fresh in zip(*(optimisers(loaded.state["training"]) for loaded in (given, taken)), strict=True):
        assert trained["state"] and not fresh["state"]
    generators = [loaded.state["training"]["generators"]["acting"] for loaded in (given, taken)]
    assert not generators[0].equal(generators[1])
    assert train.main(words) == 0  # goes on, and does not begin with the other's networks again
    assert remains(folder_of(words)).step == "step-00000004"


def test_init_from_a_run_that_is_not_there_or_does_not_fit_is_refused_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tiny(tmp_path / "a", n_iters=1)
    assert train.main(source) == 0
    path = folder_of(source).path
    for settings in ({"init_from": f"{path}x"}, {"init_from": path, "network__hidden": "[9]"}):
        capsys.readouterr()
        assert train.main(tiny(tmp_path / "b", **settings)) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith(f"init_from={settings['init_from']}: ") and captured.err.count("\n") == 1
    assert not (tmp_path / "b").exists()
    assert train.main(tiny(tmp_path / "b", init_from=f"{path}x")) == 2
    assert f"did you mean {path}?" in capsys.readouterr().err


def test_other_settings_under_the_same_run_name_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tiny(tmp_path, run_name="mine", n_iters=1)
    assert train.main(words) == 0
    left = remains(folder_of(words))
    assert train.main(tiny(tmp_path, run_name="mine", n_iters=1, learner__gamma=0.5, seed=3)) == 2
    error = capsys.readouterr().err
    assert "other settings than seed=3 learner.gamma=0.5;" in error and "resume=never" in error
    assert remains(folder_of(words)) == left
    assert train.main(tiny(tmp_path, run_name="mine", n_iters=2, keep_checkpoints=1)) == 0  # these merely extend it


def test_evaluations_are_logged_whatever_the_interval_of_log_lines(tmp_path: Path) -> None:
    words = tiny(tmp_path, log_interval=3)
    assert train.main(words) == 0
    rows = {row["iteration"]: row for row in remains(folder_of(words)).metrics}
    assert set(rows) == {2, 3, 4}
    assert [step for step, row in rows.items() if "evaluation/train/return_k1" in row] == [2, 4]


def test_the_last_evaluation_may_be_the_best(tmp_path: Path) -> None:
    words = tiny(tmp_path, eval_interval=0)
    assert train.main(words) == 0
    assert load_run(folder_of(words).path, best=True).iteration == 4


@pytest.mark.usefixtures("reported")
def test_references_are_trained_and_stand_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = tiny(tmp_path, n_iters=1, references="true")
    assert train.main(words) == 0
    table = capsys.readouterr().out.rpartition("seeds  env steps")[2]
    labels = {line.partition("  ")[0] for line in table.splitlines()}
    assert {"oracle", "mg2l_kalei", "none", "oracle - none", "score of mg2l_kalei"} <= labels


def test_a_stop_while_a_reference_is_trained_stops_everything(
    tmp_path: Path, after_iteration: Callable[..., None]
) -> None:
    words = tiny(tmp_path, n_iters=2, references="true")
    after_iteration(2, terminate)
    assert train.main(words) == TERMINATED
    assert not folder_of(words).path.exists()
