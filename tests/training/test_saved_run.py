"""Does a run's folder suffice, wherever it is, and is one refused that is foreign, damaged or of other tasks?"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import train
from mg2l_kalei.disk.checkpoint import CheckpointError, Checkpoints
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.training.plan import reference_folders
from mg2l_kalei.training.saved_run import LoadedRun, load_run
from mg2l_kalei.types import State, Transition
from tests.small_runs import copy_of, folder_of, tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run; tests that change it copy it first."""
    words = tiny(tmp_path_factory.mktemp("results"), references="true")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)
        assert train.main(words) == 0
    return folder_of(words)


def some_actions(loaded: LoadedRun) -> torch.Tensor:
    """What the team does in a fixed trial, (T, B, N, 2)."""
    env = loaded.family.make(2, torch.device("cpu"), torch.Generator().manual_seed(0))
    team, task, actions = loaded.team(), torch.tensor([0, 3]), []
    seen = env.reset(task)
    team.begin(task)
    for _ in range(3):
        actions.append(team.act(seen.obs).action)
        result = env.step(actions[-1])
        start = team.episode_start
        team.observe(Transition(seen.obs, actions[-1], result.reward, result.obs, start, seen.alive))
        seen = seen._replace(obs=result.obs, alive=result.alive)
    return torch.stack(actions)


def test_a_loaded_run_acts_in_five_lines(run: RunFolder) -> None:
    loaded = load_run(run.path)
    team, task = loaded.team(seed=1), torch.tensor([2])
    env = loaded.family.make(1, torch.device("cpu"), torch.Generator())
    team.begin(task)
    result = env.step(team.act(env.reset(task).obs).action)
    assert result.reward.shape == (1, 2) and (loaded.iteration, loaded.env_steps) == (4, 64)


def test_a_moved_folder_acts_as_before_and_needs_nothing_else(run: RunFolder, tmp_path: Path) -> None:
    before = some_actions(load_run(run.path))
    moved = copy_of(run, tmp_path / "elsewhere" / "renamed")
    moved.metrics.unlink()
    (moved.path / "lock").unlink()
    shutil.rmtree(moved.events)
    shutil.rmtree(moved.evaluation)
    loaded = load_run(str(moved.path))
    assert torch.equal(some_actions(loaded), before)
    assert loaded.folder == moved


def test_loading_twice_gives_two_runs_that_share_nothing(run: RunFolder) -> None:
    first, second = load_run(run.path), load_run(run.path)
    actions = some_actions(second)
    with torch.no_grad():
        for parameter in (*first.system.learner.actor.parameters(), *first.system.encoder.parameters()):
            parameter.zero_()
    assert torch.equal(some_actions(second), actions)


def test_the_best_checkpoint_can_be_another_than_the_latest(run: RunFolder, tmp_path: Path) -> None:
    without = copy_of(run, tmp_path / "run")
    (without.checkpoints / "best").write_text("step-00000002\n")
    assert [load_run(without.path, best=best).iteration for best in (True, False)] == [2, 4]
    (without.checkpoints / "best").unlink()
    with pytest.raises(CheckpointError, match="no checkpoint marked best"):
        load_run(without.path, best=True)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_with_a_warning(
    run: RunFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    harmed = copy_of(run, tmp_path / "run")
    file = harmed.checkpoints / "step-00000004" / "weights.safetensors"
    file.write_bytes(bytes([*file.read_bytes()[:-1], 255]))
    assert load_run(harmed.path).iteration == 3
    assert "SHA-256 differs" in caplog.text
    shutil.rmtree(harmed.checkpoints)
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_run(harmed.path)


def change_a_parameter(content: dict) -> None:
    content["tasks"][1]["params"]["goal"][0] = 0.5


def change_a_split(content: dict) -> None:
    content["tasks"][3]["split"] = "test"


def change_the_fingerprint(content: dict) -> None:
    content["fingerprint"] = "0" * 64


def forget_the_tasks(content: dict) -> None:
    del content["tasks"]


@pytest.mark.parametrize("change", [change_a_parameter, change_a_split, change_the_fingerprint, forget_the_tasks])
def test_a_run_on_other_tasks_than_its_family_draws_now_is_refused(
    run: RunFolder, tmp_path: Path, change: Callable[[dict], None], capsys: pytest.CaptureFixture[str]
) -> None:
    changed = copy_of(run, tmp_path / "toy-corners" / "mg2l_kalei" / run.path.name)
    content = json.loads(changed.tasks.read_text())
    load_run(changed.path)
    change(content)
    changed.tasks.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"tasks\.json"):
        load_run(changed.path)
    assert train.main(tiny(tmp_path)) == 2  # to go on with it is refused too
    assert "tasks.json" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_tasks_that_cannot_be_read_are_refused_by_file(run: RunFolder, tmp_path: Path, text: str) -> None:
    changed = copy_of(run, tmp_path / "run")
    changed.tasks.write_text(text)
    with pytest.raises(ValueError, match=rf"{changed.tasks} is damaged"):
        load_run(changed.path)
    changed.tasks.unlink()
    with pytest.raises(ValueError, match="lacks its tasks"):
        load_run(changed.path)


FOREIGN = {
    "reads the environment": ("run_name: null", "run_name: ${oc.env:HOME}"),
    "reads the environment for a name": ("algo: mg2l_kalei", "algo: ${oc.env:HOME}"),
    "reads the environment in a list": ("- 8\n", "- ${oc.env:HOME}\n"),
    "names a class to make": ("encoder:\n", "encoder:\n  _target_: os.system\n"),
    "names a class to make at the top": ("seed: 0\n", "seed: 0\n_target_: os.system\n"),
    "chooses a kind by its path": ("kind: mg2l\n", "kind: os.system\n"),
    "holds a Python object": ("seed: 0\n", "seed: !!python/object/apply:os.system ['touch {mark}']\n"),
    "leaves its folder": ("run_name: null", "run_name: ../../x"),
}


@pytest.mark.parametrize("deed", FOREIGN)
def test_a_foreign_config_can_neither_run_code_nor_read_the_environment(
    run: RunFolder, tmp_path: Path, deed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "a-secret")
    foreign = copy_of(run, tmp_path / "run")
    old, new = FOREIGN[deed]
    text = foreign.config.read_text()
    assert old in text
    foreign.config.write_text(text.replace(old, new.replace("{mark}", str(tmp_path / "mark")), 1))
    with pytest.raises(ValueError, match=r"\S") as refused:
        load_run(foreign.path)
    assert str(foreign.path) in str(refused.value)
    assert os.environ["HOME"] not in str(refused.value)
    assert not (tmp_path / "mark").exists()


def test_a_pickle_in_place_of_tensors_is_not_loaded(run: RunFolder, tmp_path: Path) -> None:
    harmed = copy_of(run, tmp_path / "run")
    for file in harmed.checkpoints.glob("step-*/weights.safetensors"):
        torch.save({"weight": torch.zeros(2)}, file)
    with pytest.raises(CheckpointError, match="none of 3 checkpoints"):
        load_run(harmed.path)


def test_a_checkpoint_of_other_settings_than_the_config_is_refused_by_what_differs(
    run: RunFolder, tmp_path: Path
) -> None:
    changed = copy_of(run, tmp_path / "run")
    changed.config.write_text(changed.config.read_text().replace("latent_dim: 4", "latent_dim: 5"))
    with pytest.raises(CheckpointError, match=r"checkpoint of another run \(encoder.latent_dim=4, not 5\)") as refused:
        load_run(changed.path)
    assert "\n" not in str(refused.value)


def leave_out_a_count(weights: State) -> None:
    del weights["env_steps"]


def spoil_a_count(weights: State) -> None:
    weights["iteration"] = "many"


def empty_the_encoder(weights: State) -> None:
    weights["encoder"] = []


def change_a_shape(weights: State) -> None:
    weights["encoder"] = {name: tensor[None] for name, tensor in weights["encoder"].items()}


@pytest.mark.parametrize("change", [leave_out_a_count, spoil_a_count, empty_the_encoder, change_a_shape])
def test_weights_that_do_not_fit_are_one_clear_error(
    run: RunFolder, tmp_path: Path, change: Callable[[State], None], capsys: pytest.CaptureFixture[str]
) -> None:
    changed = copy_of(run, tmp_path / "toy-corners" / "mg2l_kalei" / run.path.name)
    loaded = Checkpoints(changed.checkpoints, 1).load_latest()
    assert loaded is not None
    change(loaded.state["weights"])
    Checkpoints(changed.checkpoints, 1).save(loaded.state, 4)
    with pytest.raises(CheckpointError, match=r"checkpoint 4 does not fit config.yaml, or not this version") as refused:
        load_run(changed.path)
    assert "\n" not in str(refused.value)
    assert train.main(tiny(tmp_path)) == 1
    assert capsys.readouterr().err == f"error: {refused.value}\n"


def test_a_folder_that_is_no_run_is_refused_with_the_nearest_that_is(run: RunFolder, tmp_path: Path) -> None:
    run = copy_of(run, tmp_path / "toy-corners" / "algo" / "default-s0")
    nearest = {
        run.path.parent / "defualt-s0": run.path,
        run.path.parent: None,
        tmp_path / "toy-corner" / "algo" / "default-s0": tmp_path / "toy-corners",
    }
    for given, meant in nearest.items():
        with pytest.raises(FileNotFoundError, match=f"{given} holds no run") as refused:
            load_run(given)
        assert meant is None or f"did you mean {meant}?" in str(refused.value)
    with pytest.raises(FileNotFoundError) as refused:
        load_run(tmp_path / "nosuchdir")
    assert "did you mean" not in str(refused.value)


def test_reference_runs_are_found_in_the_results_folder_wherever_it_was_moved(run: RunFolder, tmp_path: Path) -> None:
    results = run.path.parents[2]
    moved = shutil.copytree(results, tmp_path / "moved")
    loaded = load_run(moved / run.path.relative_to(results))
    found = reference_folders(loaded)
    assert {line: load_run(path).config.kinds["encoder"] for line, path in found.items()} == {
        "none": "none",
        "oracle": "oracle",
    }
    assert all(path.is_relative_to(moved) for path in found.values())
    shutil.rmtree(found["oracle"])
    assert list(reference_folders(loaded)) == ["none"]
    assert reference_folders(load_run(copy_of(run, tmp_path / "alone").path)) == {}
