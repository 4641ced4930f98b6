"""Which joints an agent moves, and what it sees, as gymnasium-robotics' ``mamujoco_v1`` has it.

gymnasium-robotics (github.com/Farama-Foundation/Gymnasium-Robotics) continues Multi-agent MuJoCo (arXiv 2003.06709).
Its own functions are asked once, about numbers that are all different: the answers tell where each number that an agent
sees comes from, and how it is clipped. Afterwards observations of a batch are one lookup.
"""

from __future__ import annotations

import math
import re
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.core import Refusal
from envs.mujoco.imports import obsk_module
from envs.mujoco.robots import ANY_NUMBERS, Array, Robot

ONE_JOINT_EACH = (("Humanoid", "17x1"), ("Walker2d", "6x1"))  # partitions that gymnasium-robotics has no name for

MAX_JOINTS = 400  # of a robot that is generated; MuJoCo reads bodies within bodies down to some 490


class View(NamedTuple):
    """Numbers chosen among all that can be observed (see ``Robot.fields``), and clipped."""

    columns: NDArray[np.int64]  # (n,)
    limit: Array  # (n,)   infinite where nothing is clipped

    @property
    def is_limited(self) -> bool:
        return bool(np.isfinite(self.limit).any())


class Partition(NamedTuple):
    actuators: tuple[tuple[int, ...], ...]  # of each agent, in the order of its actions
    views: tuple[View, ...]  # of each agent


class Graph(NamedTuple):
    """What gymnasium-robotics calls an agent factorization."""

    parts: list[Any]  # joints of each agent
    edges: list[Any]  # what joins them
    globals_: list[Any]  # what all see


def partition_of(robot: Robot, conf: str, obsk: int, shapes: dict[str, tuple[int, ...]]) -> Partition:
    """Agents of ``conf`` ("2x3": two agents with three joints), who see joints up to ``obsk`` joints away from theirs.

    shapes: of the robot's fields. Raises ValueError, in one line, where there is no such partition or distance.
    """
    graph = factorization(robot, conf)
    farthest = _farthest(graph)
    if obsk > farthest:
        valid = ", ".join(str(k) for k in range(farthest + 1))
        raise Refusal(f"agent_obsk={obsk}: in {robot.label} {conf} no joint is that far; valid are: {valid}")
    views = tuple(_view(robot, graph, part, obsk, shapes) for part in graph.parts)
    return Partition(tuple(tuple(node.act_ids for node in part) for part in graph.parts), views)


def factorization(robot: Robot, conf: str) -> Graph:
    """The agents of a robot. Raises ValueError, in one line, where there is no such partition."""
    if not _is_among(conf, robot.partitions):
        raise Refusal(f"agent_conf={conf!r}: {robot.label} is divided as: {', '.join(robot.partitions)}")
    if robot.model is None and (n_joints := math.prod(map(int, conf.split("x")))) > MAX_JOINTS:
        raise Refusal(f"agent_conf={conf!r}: {n_joints} joints, and {MAX_JOINTS} at most can be made")
    if (robot.label, conf) in ONE_JOINT_EACH:
        (everything,), edges, globals_ = obsk_module().get_parts_and_edges(robot.label, None)
        parts = [(node,) for node in sorted(everything, key=lambda node: node.act_ids)]
    else:
        parts, edges, globals_ = obsk_module().get_parts_and_edges(robot.label, conf)
    return Graph(list(parts), list(edges), list(globals_))


def _is_among(conf: str, partitions: tuple[str, ...]) -> bool:
    is_product = re.fullmatch(r"[1-9]\d*x[1-9]\d*", conf) is not None and conf != "1x1"
    return conf in partitions or (ANY_NUMBERS in partitions and is_product)


def _farthest(graph: Graph) -> int:
    """The distance at which the last agent to see more sees nothing more."""
    n_joints = sum(len(part) for part in graph.parts)
    seen = [obsk_module().get_joints_at_kdist(part, graph.edges, n_joints) for part in graph.parts]
    return max(k for of_part in seen for k, joints in of_part.items() if joints)


def _view(robot: Robot, graph: Graph, part: Any, obsk: int, shapes: dict[str, tuple[int, ...]]) -> View:
    names = [field.name for field in robot.fields]
    categories = [names] + [["qpos"]] * obsk
    joints = obsk_module().get_joints_at_kdist(part, graph.edges, obsk)

    def seen(numbers: Array) -> Array:
        """What is seen where all that can be observed is ``numbers``."""
        ends = np.cumsum([int(np.prod(shapes[name])) for name in names])
        fields = [field.reshape(shapes[name]) for field, name in zip(np.split(numbers, ends[:-1]), names, strict=True)]
        data = SimpleNamespace(**dict(zip(names, fields, strict=True)))
        return np.array(obsk_module().build_obs(data, joints, categories, graph.globals_, ("qpos", "qvel")))

    small = np.linspace(0.1, 0.9, sum(int(np.prod(shapes[name])) for name in names))  # too small to be clipped
    columns = np.searchsorted(small, seen(small))
    high, low = seen(small + 1e9), seen(-small - 1e9)
    is_clipped = high < 1e8
    if not (np.array_equal(small[columns], seen(small)) and np.array_equal(high[is_clipped], -low[is_clipped])):
        raise Refusal(f"{robot.label}: agents see something else than clipped numbers of {', '.join(names)}")
    return View(columns, np.where(is_clipped, high, np.inf))
