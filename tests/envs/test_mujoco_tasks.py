"""Are the tasks of MuJoCo's families what they say, and is what cannot be made refused in one line?"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.mujoco.family import MujocoFamily
from envs.mujoco.models import pristine
from envs.mujoco.robots import ROBOTS
from envs.mujoco.tasks import SPEEDS, TRAIN_FACTORS, UNSEEN_FACTORS, UNSEEN_SPEEDS
from mg2l_kalei.__main__ import main
from tests.envs.mujoco_families import family


def sizes(made: MujocoFamily) -> dict[str, int]:
    return {split: len(tasks) for split, tasks in made.splits.items()}


def test_speeds_out_of_range_are_above_all_others() -> None:
    made = family("mujoco-cheetah-vel", n_train=200, n_test=100, n_ood=50)
    assert sizes(made) == {"train": 200, "test": 100, "ood": 50}
    assert (SPEEDS, UNSEEN_SPEEDS) == ((0.0, 3.0), (3.0, 4.0))
    for split, (low, high) in {"train": SPEEDS, "test": SPEEDS, "ood": UNSEEN_SPEEDS}.items():
        drawn = [task.params["speed"] for task in made.splits[split]]
        assert low <= min(drawn) < low + 0.1 and high - 0.1 < max(drawn) <= high
    assert [task.features[0] for task in made.tasks] == pytest.approx([t.params["speed"] / 1.5 - 1 for t in made.tasks])


@pytest.mark.parametrize("name", ["mujoco-hopper-param", "mujoco-walker-param"])
def test_factors_out_of_range_are_all_above_or_all_below(name: str) -> None:
    made = family(name, n_train=200, n_test=100, n_ood=50)
    assert sizes(made) == {"train": 200, "test": 100, "ood": 50}
    drawn = {split: np.array([list(task.params.values()) for task in made.splits[split]]) for split in made.splits}
    for split in ("train", "test"):
        low, high = TRAIN_FACTORS
        assert (drawn[split] >= low).all() and (drawn[split] <= high).all()
        assert (np.ptp(drawn[split], axis=0) > 0.9 * (high - low)).all()
        assert np.abs(np.corrcoef(drawn[split].T) - np.eye(4)).max() < 0.3  # each is drawn by itself
    assert (TRAIN_FACTORS, UNSEEN_FACTORS) == ((0.5, 1.5), ((1.5, 2.0), (0.35, 0.5)))
    for i, (low, high) in enumerate(UNSEEN_FACTORS):
        assert (drawn["ood"][i::2] >= low).all() and (drawn["ood"][i::2] <= high).all()
    assert set(made.tasks[0].params) == {"mass", "damping", "friction", "inertia"}


def test_wide_factors_are_alike_in_their_logarithms() -> None:
    made = family("mujoco-hopper-param-wide", n_train=400, n_test=20, n_ood=50)
    drawn = {split: np.log2([list(task.params.values()) for task in made.splits[split]]) for split in made.splits}
    assert np.abs(drawn["train"]).max() <= 2 and np.abs(drawn["test"]).max() <= 2
    assert np.abs(np.quantile(drawn["train"], [0.25, 0.75], axis=0) - [[-1], [1]]).max() < 0.25
    assert (drawn["ood"][0::2] >= 2).all() and (drawn["ood"][1::2] <= -2).all()
    features = np.array([task.features for task in made.tasks])
    assert features == pytest.approx(np.concatenate(list(drawn.values())) / 2)


def test_cheetahs_run_forwards_or_backwards_and_nothing_is_held_out() -> None:
    made = family("mujoco-cheetah-dir")
    assert made.seen_only and [task.params["direction"] for task in made.tasks] == [[1.0, 0.0], [-1.0, 0.0]]


def test_directions_held_out_lie_midway_between_those_trained_on() -> None:
    made = family("mujoco-ant-dir", n_directions=6)
    degrees = {
        split: [math.degrees(math.atan2(*reversed(task.params["direction"]))) % 360 for task in tasks]
        for split, tasks in made.splits.items()
    }
    assert degrees == {
        "train": pytest.approx([0, 60, 120, 180, 240, 300]),
        "test": pytest.approx([30, 90, 150, 210, 270, 330]),
    }
    assert all(math.hypot(*task.params["direction"]) == pytest.approx(1) for task in made.tasks)


def test_one_weak_joint_is_held_out() -> None:
    made = family("mujoco-cheetah-cripple", held_out="bfoot")
    weak = {split: [task.params["joint"] for task in tasks] for split, tasks in made.splits.items()}
    assert weak == {"train": ["bthigh", "bshin", "fthigh", "fshin", "ffoot"], "test": ["bfoot"]}
    assert len({task.features for task in made.tasks}) == 6
    assert {task.params["strength"] for task in made.tasks} == {0.2}


@pytest.mark.parametrize("package", ["mujoco", "gymnasium", "gymnasium-robotics"])
def test_tasks_are_those_of_the_versions_of_all_that_simulates_them(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, found = "mujoco-cheetah-dir", metadata.version
    before = family(name)
    assert before.made_by[package] == found(package)
    monkeypatch.setattr(metadata, "version", lambda asked: "9.9" if asked == package else found(asked))
    assert family(name).made_by[package] == "9.9" and family(name).fingerprint() != before.fingerprint()


@pytest.mark.parametrize(
    "settings", [{"observation": "full"}, {"agent_obsk": 1}, {"agent_conf": "6x1"}, {"robot": "Walker2d"}]
)
def test_tasks_are_those_of_the_robot_its_agents_and_what_they_see(settings: dict[str, Any]) -> None:
    name = "mujoco-cheetah-vel"
    assert family(name, **settings).fingerprint() != family(name).fingerprint() == family(name).fingerprint()


# --- what cannot be made ----------------------------------------------------------------------------------------------

REFUSED = {
    "robot=Halfcheetah": "command line: env.robot=Halfcheetah: expected one of Ant, HalfCheetah, Hopper, Humanoid, "
    "ManySegmentSwimmer, Swimmer, Walker2d (did you mean HalfCheetah?)",
    "agent_conf=3x2": "agent_conf='3x2': HalfCheetah is divided as: 2x3, 6x1",
    "agent_conf=2": "agent_conf='2': HalfCheetah is divided as: 2x3, 6x1",
    "robot=ManySegmentSwimmer agent_conf=0x2": "agent_conf='0x2': ManySegmentSwimmer is divided as: NxM: agents x "
    "joints of each, two joints or more",
    "robot=ManySegmentSwimmer agent_conf=axb": "agent_conf='axb': ManySegmentSwimmer is divided as: NxM: agents x "
    "joints of each, two joints or more",
    "observation=full agent_obsk=1": "env: agent_obsk=1: with observation=full all see everything",
    "agent_obsk=4": "agent_obsk=4: in HalfCheetah 2x3 no joint is that far; valid are: 0, 1, 2, 3",
    "held_out=knee": "held_out=knee: the joints of HalfCheetah are bthigh, bshin, bfoot, fthigh, fshin, ffoot",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_is_refused_in_one_line_with_what_can(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "hash", "mujoco-cheetah-cripple", *words.split()]) == 2
    assert capsys.readouterr().err == f"{REFUSED[words]}\n"


def test_robots_that_move_in_a_plane_alone_have_directions() -> None:
    with pytest.raises(ValueError, match=r"in the plane move: Ant, Humanoid, ManySegmentSwimmer, Swimmer$"):
        family("mujoco-ant-dir", robot="Hopper", agent_conf="3x1")
    names = [task.name for task in family("mujoco-ant-dir", n_directions=400).tasks]
    assert len(set(names)) == 800


def test_a_backend_that_does_not_work_hinders_drawing_alone() -> None:
    words = [sys.executable, "-m", "mg2l_kalei", "tasks", "hash", "mujoco-cheetah-dir"]
    done = subprocess.run(words, env={**os.environ, "MUJOCO_GL": "nonsense"}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_package_that_is_missing_or_too_old_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    line = r"^MuJoCo families need mujoco 4 or newer: pip install 'mg2l_kalei\[mujoco\]'$"
    found = metadata.version

    def version(package: str) -> str:
        if package == "gymnasium-robotics":
            raise metadata.PackageNotFoundError(package)
        return found(package)

    with monkeypatch.context() as patched, pytest.raises(ValueError, match=line):
        patched.setattr(metadata, "version", version)
        family("mujoco-cheetah-dir")
    monkeypatch.setitem(sys.modules, "mujoco.batch", None)  # came with version 4
    with pytest.raises(ValueError, match=line):
        family("mujoco-cheetah-dir")


def test_models_are_loaded_without_a_log_file(elsewhere: Path) -> None:
    for robot in ROBOTS.values():
        pristine(robot, "3x2" if robot.model is None else robot.partitions[0])
    assert not list(elsewhere.iterdir())
