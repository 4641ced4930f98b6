"""MuJoCo models of the robots, and of what tasks change in them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any

from envs.mujoco.imports import obsk_module
from envs.mujoco.robots import Robot

if TYPE_CHECKING:
    import mujoco

FACTORS = ("mass", "damping", "friction", "inertia")  # that a task may have, of the whole robot
SEGMENT = """<body name="mid{i}" pos="-1 0 0">
  <geom density="1000" fromto="0 0 0 -1 0 0" size="0.1" type="capsule"/>
  <joint axis="0 0 {sign}" limited="true" name="rot{i}" pos="0 0 0" range="-100 100" type="hinge"/>
"""
LAST_SEGMENT = """<body name="back" pos="-1 0 0">
  <geom density="1000" fromto="0 0 0 -1 0 0" size="0.1" type="capsule"/>
  <joint axis="0 0 1" limited="true" name="rot{i}" pos="0 0 0" range="-100 100" type="hinge"/>
</body>
"""
MOTOR = '<motor ctrllimited="true" ctrlrange="-1 1" gear="150.0" joint="rot{i}"/>\n'


def pristine(robot: Robot, conf: str) -> mujoco.MjModel:
    """The robot's model as it comes from Gymnasium, in memory; a swimmer of many segments is generated there.

    conf: a partition that the robot has.
    """
    import mujoco

    obsk_module()  # so that its package is imported by now
    with _quiet():
        if robot.model is None:
            n_agents, n_each = conf.split("x")
            return mujoco.MjModel.from_xml_string(_many_segments(int(n_agents) * int(n_each)))
        text = (resources.files("gymnasium") / "envs" / "mujoco" / "assets" / robot.model).read_text()
        return mujoco.MjModel.from_xml_string(text)


def changed(model: mujoco.MjModel, params: Mapping[str, Any]) -> mujoco.MjModel:
    """A copy of a pristine model with what a task changes, and with the constants that follow from it.

    params: factors ("mass": 1.2, see ``FACTORS``) of all bodies, joints or surfaces; or a "joint" and the "strength" of
    its actuator, a share of the usual one. Whatever else is in there is no matter of the model.
    """
    import mujoco

    changes = [name for name in (*FACTORS, "joint") if name in params]
    if not changes:
        return model
    new = copy.copy(model)
    new.body_mass *= params.get("mass", 1.0)
    new.body_inertia *= params.get("inertia", 1.0)
    new.dof_damping *= params.get("damping", 1.0)
    new.geom_friction *= params.get("friction", 1.0)
    if "joint" in params:
        joint = new.joint(params["joint"]).id
        new.actuator_gear[new.actuator_trnid[:, 0] == joint] *= params["strength"]
    mujoco.mj_setConst(new, mujoco.MjData(new))
    new.stat.meanmass = new.body_mass[1:].mean()  # what mj_setConst leaves as it was; the world is no body of the robot
    new.stat.meaninertia = new.dof_M0.mean()
    return new


def actuated_joints(model: mujoco.MjModel) -> list[str]:
    """Names, in the order of actions."""
    return [model.joint(joint).name for joint in model.actuator_trnid[:, 0].tolist()]


def _many_segments(n_segments: int) -> str:
    """XML of a swimmer with ``n_segments`` joints, as gymnasium-robotics' ``many_segment_swimmer`` makes it."""
    bodies = [SEGMENT.format(i=i, sign=(-1) ** (i + 1)) for i in range(1, n_segments - 1)]
    body = "".join(bodies) + LAST_SEGMENT.format(i=n_segments - 1) + "</body>\n" * len(bodies)
    motors = "".join(MOTOR.format(i=i) for i in range(n_segments))
    template = (
        resources.files("gymnasium_robotics.envs.multiagent_mujoco") / "assets" / "many_segment_swimmer.xml.template"
    )
    return template.read_text().replace("{{ body }}", body).replace("{{ actuators }}", motors)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the log file that MuJoCo writes where a model has settings that it will drop in some later version."""
    import mujoco

    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(None)
