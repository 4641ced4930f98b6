"""Families of tasks for the robots, as single-agent meta-learning has them.

Finn et al. 2017 (arXiv 1703.03400) run either way and keep speeds, Rakelly et al. 2019 (arXiv 1903.08254) run in
directions of the plane and change factors of the model, Nagabandi et al. 2018 (arXiv 1803.11347) cripple a joint.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from envs.core import Refusal, Task, refuse_many_tasks, setting
from envs.mujoco.family import MujocoFamily
from envs.mujoco.models import FACTORS, actuated_joints
from envs.mujoco.robots import ROBOTS
from envs.mujoco.team import MujocoConfig

SPEEDS = (0.0, 3.0)  # m/s
UNSEEN_SPEEDS = (3.0, 4.0)  # m/s, of the ood split
TRAIN_FACTORS = (0.5, 1.5)
UNSEEN_FACTORS = ((1.5, 2.0), (0.35, 0.5))
WIDE_FACTORS = (0.25, 4.0)
UNSEEN_WIDE_FACTORS = ((4.0, 5.0), (0.2, 0.25))
MAX_MODELS = 1_000  # half a megabyte each


@dataclass(frozen=True)
class DrawnConfig(MujocoConfig):
    n_train: int = setting(50, "tasks to train on", low=1)
    n_test: int = setting(10, "held-out tasks of the same range", low=0)
    n_ood: int = setting(10, "held-out tasks outside of it", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_many_tasks(self.asked, self.n_tasks)

    @property
    def asked(self) -> str:
        return f"n_train={self.n_train}, n_test={self.n_test}, n_ood={self.n_ood}"

    @property
    def n_tasks(self) -> int:
        return self.n_train + self.n_test + self.n_ood

    @property
    def splits(self) -> Iterator[tuple[str, int]]:
        """Split and number of every task."""
        for split, n in (("train", self.n_train), ("test", self.n_test), ("ood", self.n_ood)):
            yield from ((split, i) for i in range(n))


@dataclass(frozen=True)
class DirectionsConfig(MujocoConfig):
    n_directions: int = setting(8, "directions to train on, all around; as many in between are held out", low=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_many_tasks(f"n_directions={self.n_directions}", 2 * self.n_directions)


@dataclass(frozen=True)
class WeaknessConfig(MujocoConfig):
    strength: float = setting(0.2, "of the weakened joint, as a share of the usual one", low=0, high=1)
    held_out: str = setting("fshin", "joint that is strong in training")


class EitherWay(MujocoFamily):
    """A task is a direction along the x axis, forwards or backwards."""

    def _draw(self, generator: np.random.Generator) -> tuple[Task, ...]:
        return tuple(
            Task(name, {"direction": [sign, 0.0]}, (sign,)) for name, sign in (("forwards", 1.0), ("backwards", -1.0))
        )


class Speed(MujocoFamily):
    """A task is a speed to keep; those of the ood split are higher than all that were trained on."""

    config: DrawnConfig

    def _draw(self, generator: np.random.Generator) -> tuple[Task, ...]:
        low, high = SPEEDS
        tasks = []
        for split, i in self.config.splits:
            speed = float(generator.uniform(*(UNSEEN_SPEEDS if split == "ood" else SPEEDS)))
            tasks.append(Task(f"{split}-{i}", {"speed": speed}, (2 * (speed - low) / (high - low) - 1,), split))
        return tuple(tasks)


class Factors(MujocoFamily):
    """A task is another body: factors of mass, damping, friction and inertia. In the ood split all are out of range."""

    config: DrawnConfig

    def _draw(self, generator: np.random.Generator) -> tuple[Task, ...]:
        _refuse_many_models(self.config)
        tasks = []
        for split, i in self.config.splits:
            drawn = generator.uniform(*(UNSEEN_FACTORS[i % 2] if split == "ood" else TRAIN_FACTORS), len(FACTORS))
            params = dict(zip(FACTORS, drawn.tolist(), strict=True))
            tasks.append(Task(f"{split}-{i}", params, tuple(2 * (factor - 1) for factor in drawn.tolist()), split))
        return tuple(tasks)


class WideFactors(MujocoFamily):
    """As ``Factors``, from a quarter to four times and alike in their logarithms: halving is as likely as doubling."""

    config: DrawnConfig

    def _draw(self, generator: np.random.Generator) -> tuple[Task, ...]:
        _refuse_many_models(self.config)
        tasks = []
        for split, i in self.config.splits:
            low, high = UNSEEN_WIDE_FACTORS[i % 2] if split == "ood" else WIDE_FACTORS
            drawn = generator.uniform(math.log(low), math.log(high), len(FACTORS))
            params = dict(zip(FACTORS, np.exp(drawn).tolist(), strict=True))
            features = tuple((drawn / math.log(WIDE_FACTORS[1])).tolist())
            tasks.append(Task(f"{split}-{i}", params, features, split))
        return tuple(tasks)


def _refuse_many_models(config: DrawnConfig) -> None:
    if config.n_tasks > MAX_MODELS:
        raise Refusal(
            f"{config.asked}: each of these {config.n_tasks} tasks is a model in every batch, and {MAX_MODELS} at most "
            "can be held"
        )


class Directions(MujocoFamily):
    """A task is a direction in the plane. Held-out ones lie midway between those trained on."""

    config: DirectionsConfig

    def _draw(self, generator: np.random.Generator) -> tuple[Task, ...]:
        n = self.config.n_directions
        if self.team.robot.is_planar:
            able = ", ".join(robot.label for robot in ROBOTS.values() if not robot.is_planar)
            raise Refusal(f"robot={self.config.robot}: it has one way to run and back; in the plane move: {able}")
        tasks = []
        for split, offset in (("train", 0.0), ("test", 0.5)):
            for i in range(n):
                angle = 2 * math.pi * (i + offset) / n
                direction = (math.cos(angle), math.sin(angle))
                name = f"{split}-{math.degrees(angle):.6g}"
                tasks.append(Task(name, {"direction": list(direction)}, direction, split))
        return tuple(tasks)


class Weakness(MujocoFamily):
    """A task is the joint whose actuator is weak. One is held out."""

    config: WeaknessConfig

    def _draw(self, generator: np.random.Generator) -> tuple[Task, ...]:
        config = self.config
        joints = actuated_joints(self.team.model)
        if config.held_out not in joints:
            raise Refusal(f"held_out={config.held_out}: the joints of {config.robot} are {', '.join(joints)}")
        features = {joint: tuple(float(joint == other) for other in joints) for joint in joints}
        trained = [joint for joint in joints if joint != config.held_out]
        return tuple(
            Task(
                joint,
                {"joint": joint, "strength": config.strength},
                features[joint],
                "train" if joint in trained else "test",
            )
            for joint in (*trained, config.held_out)
        )
