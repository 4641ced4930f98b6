"""Are reference runs filed under what they are, shared without locking each other out, and trained once?"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

import train
from mg2l_kalei.config import RunConfig, load, run_dir
from mg2l_kalei.disk.metric_log import read_metrics
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.training import plan
from mg2l_kalei.training.plan import reference_configs
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA
from tests.small_runs import folder_of, tiny


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)


def config_of(*words: str) -> RunConfig:
    return load(list(words), SCHEMA, CONFIG_DIR).config


def test_recipes_that_differ_in_what_references_lack_share_them() -> None:
    full, kalei = (reference_configs(config_of(f"--algo={algo}")) for algo in ("mg2l_full", "mg2l_kalei"))
    assert {line: run_dir(config) for line, config in full.items()} == {
        line: run_dir(config) for line, config in kalei.items()
    }
    assert [config.algo for config in full.values()] == ["mappo", "oracle"]
    assert run_dir(full["none"]) == run_dir(config_of("--algo=mappo"))


def test_memory_of_the_trial_is_no_part_of_the_line_without_inference() -> None:
    none = reference_configs(config_of("--algo=rl2"))["none"]
    assert none.network.memory == "none" and none.network.inputs == () and none.algo == "mappo"
    kept = reference_configs(config_of("--algo=mg2l_full", "network.memory=episode"))["none"]
    assert kept.network.memory == "episode"


def test_returns_of_references_end_with_the_episode_whatever_those_of_the_run_do() -> None:
    assert reference_configs(config_of("--algo=varibad"))["oracle"].learner.horizon == "episode"


@pytest.mark.parametrize("algo", ["pearl", "mg2l"])
def test_references_are_trained_for_as_many_environment_steps(tmp_path: Path, algo: str) -> None:
    """Of trials of two episodes, and of a run in which exploration makes steps of its own."""
    words = tiny(tmp_path, algo=algo, n_iters=3, references="true", trial_steps=0)
    assert train.main(words) == 0
    own = read_metrics(folder_of(words).metrics)[-1]["env_steps"]
    for reference in reference_configs(config_of(*words)).values():
        steps = [line["env_steps"] for line in read_metrics(RunFolder(run_dir(reference)).metrics)]
        assert steps[-1] >= own > steps[-2]


def test_a_reference_that_another_process_trains_is_awaited_and_not_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan, "POLL_PERIOD", 0.05)
    words = tiny(tmp_path, n_iters=2, references="true")
    own = folder_of(words)
    none = RunFolder(run_dir(reference_configs(config_of(*words))["none"]))
    taken, trained_meanwhile = threading.Event(), threading.Event()

    def other_process() -> None:
        with none.lock():
            taken.set()
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and len(read_metrics(own.metrics)) < 2:
                time.sleep(0.05)
            if len(read_metrics(own.metrics)) == 2:
                trained_meanwhile.set()

    other = threading.Thread(target=other_process)
    other.start()
    assert taken.wait(10)
    assert train.main(words) == 0
    other.join()
    assert trained_meanwhile.is_set()  # while the reference was locked
    out = capsys.readouterr().out
    assert "is being written by" in out and "score" in out
    assert len(read_metrics(none.metrics)) == 2  # it was left untrained, and so trained here


def test_a_trained_reference_is_not_waited_for_though_its_process_goes_on(tmp_path: Path) -> None:
    words = tiny(tmp_path, algo="mappo", n_iters=1, references="true")
    config = config_of(*words)
    for reference in reference_configs(config).values():
        assert plan.train(reference).exit_code == 0
    oracle = RunFolder(run_dir(reference_configs(config)["oracle"]))
    held, done = threading.Event(), threading.Event()

    def other_process() -> None:  # waits for this one's run as its own reference
        with oracle.lock():
            held.set()
            done.wait(60)

    other = threading.Thread(target=other_process)
    other.start()
    assert held.wait(10)
    assert train.main(words) == 0
    assert other.is_alive()
    done.set()
    other.join()


def test_references_of_a_second_recipe_are_not_trained_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(tiny(tmp_path, algo="mg2l_kalei", n_iters=1, references="true")) == 0
    capsys.readouterr()
    assert train.main(tiny(tmp_path, algo="mg2l_full", n_iters=1, references="true")) == 0
    assert capsys.readouterr().out.count("going on from iteration 1 of 1") == 2
