"""Pictures of MuJoCo robots, drawn off-screen.

Which of MuJoCo's OpenGL backends works depends on the machine's libraries and drivers. The one that ``MUJOCO_GL`` names
is taken, and no other; where it is not set, the first that passes a trial.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import os
import subprocess
import sys
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.core import CannotDraw, Picture

if TYPE_CHECKING:
    import mujoco

SIDE = 360  # pixels, width and height of a picture
MAX_SHAPES = 1000  # that MuJoCo draws in one picture
FROM_THE_SIDE, FROM_ABOVE = 90.0, -20.0  # degrees: azimuth and elevation of our own view
MARGIN = 1.1  # times the robot's reach
BACKENDS = ("egl", "osmesa")  # off-screen on a graphics card or by Mesa, then in software alone
MODULES = {backend: f"mujoco.{backend}" for backend in BACKENDS}  # of the others, mujoco.gl_context
TRIAL_SECONDS = 60

# In a process of its own: a backend that fails leaves PyOpenGL bound to it, and a driver may crash.
TRIAL = """
try:
    import mujoco
    mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 8, 8).render()
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


class Camera:
    """Draws states of one model, from beside the robot, and moves with it.

    The view is the model's camera "track", if it has one that shows all of the robot. Shadows and reflections are left
    out: drawn in software they take most of the time. Raises CannotDraw where no backend works.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        import mujoco

        self.model = model
        self._context = _context_class()(SIDE, SIDE)
        self._context.make_current()
        self._painter = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        self.close = weakref.finalize(self, _free, self._context, self._painter)  # called by hand, or when it is gone
        self._scene = mujoco.MjvScene(model, MAX_SHAPES)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._view = _view(model)

    def picture(self, data: mujoco.MjData) -> Picture:
        """The state as it is drawn: (SIDE, SIDE, 3) uint8, a fresh array. ``data`` must be of the camera's model."""
        import mujoco

        self._context.make_current()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._painter)
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self.model, data, mujoco.MjvOption(), None, self._view, everything, self._scene)
        frame = mujoco.MjrRect(0, 0, SIDE, SIDE)
        mujoco.mjr_render(frame, self._scene, self._painter)
        upside_down = np.empty((SIDE, SIDE, 3), np.uint8)
        mujoco.mjr_readPixels(upside_down, None, frame, self._painter)
        return upside_down[::-1].copy()


def _view(model: mujoco.MjModel) -> mujoco.MjvCamera:
    """The camera "track", if the robot fits in its picture; else one of our own, as far away as it takes."""
    import mujoco

    view = mujoco.MjvCamera()
    at_rest = mujoco.MjData(model)
    mujoco.mj_forward(model, at_rest)
    middle = at_rest.subtree_com[1]
    from_middle = np.linalg.norm(at_rest.geom_xpos - middle, axis=-1) + model.geom_rbound
    reach = from_middle[model.geom_bodyid > 0].max()
    number = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if number >= 0:
        away = np.linalg.norm(at_rest.cam_xpos[number] - middle)
        if reach < away * math.tan(math.radians(model.cam_fovy[number]) / 2):
            view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED.value, number
            return view
    view.type, view.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING.value, 1
    view.azimuth, view.elevation = FROM_THE_SIDE, FROM_ABOVE
    view.distance = MARGIN * reach / math.sin(math.radians(model.vis.global_.fovy) / 2)
    return view


def _free(context: Any, painter: mujoco.MjrContext) -> None:
    """At the interpreter's end the display may be closed before, and all that it held with it."""
    with contextlib.suppress(Exception):
        context.make_current()
        painter.free()
        context.free()


@functools.cache
def _context_class() -> Any:
    """The class of the backend's contexts. Raises CannotDraw, in one line, where no backend passes its trial."""
    wish = os.environ.get("MUJOCO_GL", "").strip().lower()
    complaints = []
    for backend in (wish,) if wish else BACKENDS:
        complaint = _complaint(backend)
        if complaint is None:
            return importlib.import_module(MODULES.get(backend, "mujoco.gl_context")).GLContext
        complaints.append(f"{backend}: {complaint}")
    other = "unset MUJOCO_GL" if wish else "set MUJOCO_GL to another backend that works here"
    setting = f"MUJOCO_GL={wish}" if wish else "MUJOCO_GL is not set"
    raise CannotDraw(
        f"MuJoCo cannot draw off-screen ({setting}; tried {'; '.join(complaints)}): install libegl1 or libosmesa6 "
        f"(Debian's names), or {other}"
    )


def _complaint(backend: str) -> str | None:
    """What a trial of the backend failed with, in one line; None: it works."""
    environment = {**os.environ, "MUJOCO_GL": backend}
    command = [sys.executable, "-c", TRIAL]
    try:
        trial = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        return f"no picture within {TRIAL_SECONDS} s"
    if trial.returncode:
        return f"its trial ended with exit code {trial.returncode}"
    return " ".join(trial.stdout.split()) or None
