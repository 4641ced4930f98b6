"""The robots: Gymnasium's v5 models and rewards (github.com/Farama-Foundation/Gymnasium), as figures of a batch.

How they are divided among agents stands in ``partition.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ANY_NUMBERS = "NxM: agents x joints of each, two joints or more"


class Field(NamedTuple):
    """Numbers of MuJoCo's data that can be observed, clipped to plus and minus ``limit``.

    The centralised state leaves the ``skipped`` first out: of positions, because where a robot is does not matter, and
    of the others because they belong to the world.
    """

    name: str
    skipped: int = 0
    limit: float = math.inf


class Robot(NamedTuple):
    label: str  # gymnasium-robotics' name
    model: str | None  # file among Gymnasium's assets; None: generated
    partitions: tuple[str, ...]  # names of; ``ANY_NUMBERS`` stands for all of its kind
    fields: tuple[Field, ...]
    n_substeps: int = 5  # of the simulator per step
    reset_noise: float = 0.1  # positions start within this, velocities have this deviation (or lie within it)
    has_normal_velocities: bool = False  # at the start; otherwise uniform
    moves_by: str = "joints"  # what its velocity is taken of: root joints, torso, or centre of mass
    is_planar: bool = False  # it moves along x, and up and down: its place has no y
    forward_weight: float = 1.0
    healthy_reward: float = 0.0  # per step
    control_cost: float = 0.1  # per squared action
    contact_cost: float = 0.0  # per squared external force
    largest_contact_cost: float = math.inf
    is_healthy: Callable[[Array, Array], NDArray[np.bool_]] | None = None  # of qpos (B, nq), qvel (B, nv): (B,)

    @property
    def feels_forces(self) -> bool:
        """Whether external forces on bodies are part of what it sees or pays."""
        return any(field.name == "cfrc_ext" for field in self.fields)


def _ant_is_healthy(qpos: Array, qvel: Array) -> NDArray[np.bool_]:
    height = qpos[:, 2]
    is_finite = np.isfinite(qpos).all(axis=1) & np.isfinite(qvel).all(axis=1)
    healthy: NDArray[np.bool_] = is_finite & (height >= 0.2) & (height <= 1.0)
    return healthy


def _hopper_is_healthy(qpos: Array, qvel: Array) -> NDArray[np.bool_]:
    is_small = (np.abs(qpos[:, 2:]) < 100).all(axis=1) & (np.abs(qvel) < 100).all(axis=1)
    healthy: NDArray[np.bool_] = is_small & (qpos[:, 1] > 0.7) & (np.abs(qpos[:, 2]) < 0.2)
    return healthy


def _walker_is_healthy(qpos: Array, qvel: Array) -> NDArray[np.bool_]:
    healthy: NDArray[np.bool_] = (qpos[:, 1] > 0.8) & (qpos[:, 1] < 2.0) & (np.abs(qpos[:, 2]) < 1.0)
    return healthy


def _humanoid_is_healthy(qpos: Array, qvel: Array) -> NDArray[np.bool_]:
    healthy: NDArray[np.bool_] = (qpos[:, 2] > 1.0) & (qpos[:, 2] < 2.0)
    return healthy


_PLANAR = (Field("qpos", skipped=1), Field("qvel"))
_PLANAR_CLIPPED = (Field("qpos", skipped=1), Field("qvel", limit=10.0))
_SWIMMER: dict[str, Any] = {
    "fields": (Field("qpos", skipped=2), Field("qvel")),
    "n_substeps": 4,
    "control_cost": 1e-4,
}
_HOPPING: dict[str, Any] = {
    "fields": _PLANAR_CLIPPED,
    "n_substeps": 4,
    "reset_noise": 5e-3,
    "healthy_reward": 1.0,
    "control_cost": 1e-3,
    "is_planar": True,
}

ROBOTS = {
    robot.label: robot
    for robot in (
        Robot(
            "Ant",
            "ant.xml",
            ("2x4", "2x4d", "4x2"),
            (Field("qpos", skipped=2), Field("qvel"), Field("cfrc_ext", skipped=6, limit=1.0)),
            has_normal_velocities=True,
            moves_by="torso",
            healthy_reward=1.0,
            control_cost=0.5,
            contact_cost=5e-4,
            is_healthy=_ant_is_healthy,
        ),
        Robot("HalfCheetah", "half_cheetah.xml", ("2x3", "6x1"), _PLANAR, has_normal_velocities=True, is_planar=True),
        Robot("Hopper", "hopper.xml", ("3x1",), **_HOPPING, is_healthy=_hopper_is_healthy),
        Robot(
            "Humanoid",
            "humanoid.xml",
            ("9|8", "17x1"),
            (
                Field("qpos", skipped=2),
                Field("qvel"),
                Field("cinert", skipped=10),
                Field("cvel", skipped=6),
                Field("qfrc_actuator", skipped=6),
                Field("cfrc_ext", skipped=6),
            ),
            reset_noise=1e-2,
            moves_by="centre of mass",
            forward_weight=1.25,
            healthy_reward=5.0,
            contact_cost=5e-7,
            largest_contact_cost=10.0,
            is_healthy=_humanoid_is_healthy,
        ),
        Robot("ManySegmentSwimmer", None, (ANY_NUMBERS,), **_SWIMMER),
        Robot("Swimmer", "swimmer.xml", ("2x1",), **_SWIMMER),
        Robot("Walker2d", "walker2d_v5.xml", ("2x3", "6x1"), **_HOPPING, is_healthy=_walker_is_healthy),
    )
}
