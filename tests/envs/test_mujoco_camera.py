"""Does the camera show the robot wherever it goes, by a backend that works, and say what is missing where none does?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from envs.core import CannotDraw
from envs.mujoco import camera
from envs.mujoco.camera import SIDE, Camera
from tests.envs.mujoco_families import batch, family

mujoco = pytest.importorskip("mujoco")

TRACK = '<camera name="track" mode="trackcom" pos="0 -4 0.5" xyaxes="1 0 0 0 0 1"/>'


def model(*, length: float = 0.5, view: str = "") -> Any:
    """A red rod that slides over a chequered floor."""
    return mujoco.MjModel.from_xml_string(
        f"""<mujoco>
        <asset>
            <texture name="squares" type="2d" builtin="checker" rgb1="0 0 0" rgb2="1 1 1" width="64" height="64"/>
            <material name="squares" texture="squares" texrepeat="20 20"/>
        </asset>
        <worldbody>
            <light pos="0 0 5" directional="true"/>
            <geom type="plane" size="20 20 1" material="squares"/>
            <body pos="0 0 0.5">{view}
                <joint type="slide" axis="1 0 0"/>
                <geom type="capsule" fromto="-{length} 0 0 {length} 0 0" size="0.2" rgba="1 0 0 1"/>
            </body>
        </worldbody>
        </mujoco>"""
    )


def state(of: Any, position: float = 0.0) -> Any:
    data = mujoco.MjData(of)
    data.qpos[0] = position
    mujoco.mj_forward(of, data)
    return data


def red(picture: np.ndarray) -> np.ndarray:
    """Where the robot is: (n, 2) rows and columns."""
    values = picture.astype(int)
    return np.argwhere(values[..., 0] > values[..., 1:].max(axis=-1) + 60)


@pytest.fixture(autouse=True)
def unchosen() -> Iterator[None]:
    camera._context_class.cache_clear()
    yield
    camera._context_class.cache_clear()


# --- which backend draws ----------------------------------------------------------------------------------------------


class Machine:
    """A machine on which only some backends work; notes which are tried."""

    def __init__(self, works: set[str]) -> None:
        self.works, self.tried = works, list[str]()

    def complaint(self, backend: str) -> str | None:
        self.tried.append(backend)
        return None if backend in self.works else f"no lib{backend}"


@pytest.mark.parametrize(
    ("wish", "works", "tried"),
    [
        (None, {"egl", "osmesa"}, ["egl"]),
        (None, {"osmesa"}, ["egl", "osmesa"]),
        ("", {"egl"}, ["egl"]),
        ("osmesa", {"egl", "osmesa"}, ["osmesa"]),
        ("EGL ", {"egl"}, ["egl"]),
        ("glfw", {"egl", "glfw"}, ["glfw"]),
    ],
)
def test_the_backend_asked_for_is_taken_else_the_first_that_works(
    wish: str | None, works: set[str], tried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(works)
    monkeypatch.setattr(camera, "_complaint", machine.complaint)
    for module in ("mujoco.egl", "mujoco.osmesa", "mujoco.gl_context"):
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(GLContext=module))
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    if wish is not None:
        monkeypatch.setenv("MUJOCO_GL", wish)
    expected = "mujoco.gl_context" if wish == "glfw" else f"mujoco.{tried[-1]}"
    assert [camera._context_class() for _ in range(2)] == [expected] * 2
    assert machine.tried == tried, "and it is chosen once"


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (
            "",
            "MuJoCo cannot draw off-screen (MUJOCO_GL is not set; tried egl: no libegl; osmesa: no libosmesa): install "
            "libegl1 or libosmesa6 (Debian's names), or set MUJOCO_GL to another backend that works here",
        ),
        (
            "osmesa",
            "MuJoCo cannot draw off-screen (MUJOCO_GL=osmesa; tried osmesa: no libosmesa): install libegl1 or "
            "libosmesa6 (Debian's names), or unset MUJOCO_GL",
        ),
    ],
)
def test_where_no_backend_works_one_line_says_what_was_tried_and_what_is_missing(
    wish: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera, "_complaint", Machine(set()).complaint)
    monkeypatch.setenv("MUJOCO_GL", wish)
    with pytest.raises(CannotDraw) as caught:
        Camera(model())
    assert str(caught.value) == message


def test_a_trial_tells_why_a_backend_fails_even_if_it_takes_its_process_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complaint = camera._complaint("no-such-backend")
    assert complaint and "no-such-backend" in complaint and "\n" not in complaint
    monkeypatch.setattr(camera, "TRIAL", "import os; os._exit(9)")
    assert camera._complaint("egl") == "its trial ended with exit code 9"
    monkeypatch.setattr(camera, "TRIAL_SECONDS", 0.2)
    monkeypatch.setattr(camera, "TRIAL", "import time; time.sleep(60)")
    assert camera._complaint("egl") == "no picture within 0.2 s"
    monkeypatch.undo()
    assert os.environ.get("MUJOCO_GL") != "egl", "a trial leaves no trace in this process"


def test_importing_the_camera_needs_neither_mujoco_nor_a_backend() -> None:
    check = "import sys, envs, envs.mujoco.camera; sys.exit(bool({'mujoco', 'OpenGL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], env={**os.environ, "MUJOCO_GL": "off"}).returncode == 0


# --- what is in the picture -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "view", "is_tracks"), [(0.5, TRACK, True), (0.5, "", False), (3.0, TRACK, False)])
def test_the_models_own_camera_is_taken_if_it_shows_all_of_the_robot(length: float, view: str, is_tracks: bool) -> None:
    chosen = camera._view(model(length=length, view=view))
    assert (chosen.type == mujoco.mjtCamera.mjCAMERA_FIXED) == is_tracks
    assert is_tracks or (chosen.type, chosen.trackbodyid) == (mujoco.mjtCamera.mjCAMERA_TRACKING, 1)


@pytest.fixture
def can_draw(unchosen: None) -> None:
    try:
        camera._context_class()
    except CannotDraw as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("can_draw")
@pytest.mark.parametrize(("length", "view"), [(0.5, TRACK), (0.5, ""), (3.0, TRACK), (3.0, "")])
def test_all_of_the_robot_is_in_the_middle_of_the_picture_wherever_it_goes(length: float, view: str) -> None:
    robot = model(length=length, view=view)
    drawn = Camera(robot)
    for position in (0.0, 3.3):
        picture = drawn.picture(state(robot, position))
        assert picture.shape == (SIDE, SIDE, 3) and picture.dtype == np.uint8
        place = red(picture)
        assert np.abs(place[:, 1].mean() - SIDE / 2) < 5
        assert place.min() > 5 and place.max() < SIDE - 5
        assert np.ptp(place[:, 1]) > SIDE / 5, "large enough to be seen"


@pytest.mark.usefixtures("can_draw")
def test_the_floor_below_shows_that_the_robot_moves_and_is_below() -> None:
    robot = model(view=TRACK)
    drawn = Camera(robot)
    before, after = (drawn.picture(state(robot, position)) for position in (0.0, 0.9))
    lower = np.s_[-SIDE // 4 :]
    assert (np.abs(before[lower].astype(int) - after[lower]) > 100).mean() > 0.1
    assert before[lower].std() > 5 * before[: SIDE // 8].std(), "squares below, sky above"


@pytest.mark.usefixtures("can_draw")
def test_cameras_do_not_disturb_each_other_and_pictures_stay() -> None:
    short, long = model(length=0.3, view=TRACK), model(length=0.9, view=TRACK)
    first, second = Camera(short), Camera(long)
    picture = first.picture(state(short))
    kept = picture.copy()
    assert len(red(second.picture(state(long)))) > len(red(picture))
    second.close()
    second.close()
    assert (first.picture(state(short)) == kept).all()
    first.picture(state(short, 0.9))
    assert (picture == kept).all()


@pytest.mark.usefixtures("can_draw")
def test_a_scene_is_the_row_asked_for() -> None:
    rows = batch(family("mujoco-ant-dir"), 2)
    rows.reset(torch.tensor([0, 1]))
    first, second = rows.scene(0), rows.scene(1)
    rows.simulator.qpos[1, 2] += 0.5  # lifted
    assert (rows.scene(0) == first).all() and (rows.scene(1) != second).any()
