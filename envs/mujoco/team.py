"""A robot divided among agents: which actuators are whose, and who sees what."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from envs.core import EnvSpec, Refusal, setting
from envs.mujoco.models import pristine
from envs.mujoco.partition import Partition, View, factorization, partition_of
from envs.mujoco.robots import ROBOTS, Array, Robot

REGIMES = ("partial", "full", "full-standardised")


@dataclass(frozen=True)
class MujocoConfig:
    """A robot and its agents."""

    robot: str = setting("HalfCheetah", "whose v5 of Gymnasium is divided among agents", choices=tuple(ROBOTS))
    agent_conf: str = setting("2x3", "agents x joints of each, by the names that gymnasium-robotics has")
    agent_obsk: int = setting(0, "agents see joints up to so many joints away from their own", low=0)
    observation: str = setting(
        "partial",
        "by agent_obsk; full: all see the whole state, with their number, as it is or standardised in each sample",
        choices=REGIMES,
    )
    episode_steps: int = setting(1000, "time limit of an episode [steps]", low=1)

    def __post_init__(self) -> None:
        if self.observation != "partial" and self.agent_obsk:
            raise Refusal(f"agent_obsk={self.agent_obsk}: with observation={self.observation} all see everything")

    @property
    def regime(self) -> str:
        """What is observed: returns of different regimes must not be compared."""
        return f"partial-{self.agent_obsk}" if self.observation == "partial" else self.observation


class Team:
    """The agents of a robot. Raises ValueError, in one line, where the robot cannot be divided so."""

    def __init__(self, config: MujocoConfig) -> None:
        import mujoco

        self.robot = ROBOTS[config.robot]
        factorization(self.robot, config.agent_conf)  # refused before a model is made for it
        self.model = pristine(self.robot, config.agent_conf)
        self._regime = config.observation
        data = mujoco.MjData(self.model)
        shapes = {field.name: getattr(data, field.name).shape for field in self.robot.fields}
        partition = partition_of(self.robot, config.agent_conf, config.agent_obsk, shapes)
        self._state_view = _state_view(self.robot, shapes)
        self._obs_view = _padded(partition.views, sum(math.prod(shape) for shape in shapes.values()))
        self.spec = self._spec(partition, config.episode_steps)
        places = {
            actuator: agent * self.spec.action_dim + place
            for agent, actuators in enumerate(partition.actuators)
            for place, actuator in enumerate(actuators)
        }
        self._places = np.array([places[actuator] for actuator in range(len(places))])  # (nu,)
        self._largest_control: Array = self.model.actuator_ctrlrange[:, 1].copy()

    def control(self, action: Tensor) -> Array:
        """What actions (B, N, action_dim) are to the simulator: (B, nu)."""
        acted = action.detach().to("cpu", torch.float64).flatten(1).numpy()
        return acted.take(self._places, axis=1).clip(-1, 1) * self._largest_control

    def state(self, everything: Array) -> Array:
        """What Gymnasium's single agent sees, (B, state_dim), of all fields of the robot and a zero (B, n)."""
        return _seen(self._state_view, everything)

    def obs(self, everything: Array) -> Array:
        """What agents see, (B, N, obs_dim), of all fields of the robot and a zero (B, n)."""
        n_rows, n_agents = len(everything), self.spec.n_agents
        if self._regime == "partial":
            return _seen(self._obs_view, everything).reshape(n_rows, n_agents, -1)
        numbers = np.broadcast_to(np.eye(n_agents), (n_rows, n_agents, n_agents))
        state = np.broadcast_to(self.state(everything)[:, None], (n_rows, n_agents, self.spec.state_dim))
        seen = np.concatenate((state, numbers), axis=-1)
        if self._regime == "full":
            return seen
        standardised: Array = (seen - seen.mean(-1, keepdims=True)) / seen.std(-1, keepdims=True)
        return standardised

    def _spec(self, partition: Partition, episode_steps: int) -> EnvSpec:
        n_agents, state_dim = len(partition.views), len(self._state_view.columns)
        sees_all = self._regime != "partial"
        obs_sizes = tuple(state_dim + n_agents if sees_all else len(view.columns) for view in partition.views)
        action_sizes = tuple(len(actuators) for actuators in partition.actuators)
        kinds = list(zip(obs_sizes, action_sizes, strict=True))
        is_mixed = len(set(kinds)) > 1
        return EnvSpec(
            n_agents=n_agents,
            obs_dim=max(obs_sizes),
            state_dim=state_dim,
            action_dim=max(action_sizes),
            is_discrete=False,
            episode_steps=episode_steps,
            obs_sizes=obs_sizes if is_mixed else (),
            action_sizes=action_sizes if is_mixed else (),
            agent_types=tuple(sorted(set(kinds)).index(kind) for kind in kinds) if is_mixed else (),
            shared_reward=True,
        )


def _seen(view: View, everything: Array) -> Array:
    chosen = everything.take(view.columns, axis=1)
    return chosen.clip(-view.limit, view.limit) if view.is_limited else chosen


def _state_view(robot: Robot, shapes: dict[str, tuple[int, ...]]) -> View:
    """What Gymnasium's own agent sees."""
    columns: list[int] = []
    limits: list[float] = []
    first = 0
    for field in robot.fields:
        size = math.prod(shapes[field.name])
        columns += range(first + field.skipped, first + size)
        limits += [field.limit] * (size - field.skipped)
        first += size
    return View(np.array(columns), np.array(limits))


def _padded(views: tuple[View, ...], empty: int) -> View:
    """All agents' views side by side, each as long as the longest, which the column ``empty`` fills up."""
    width = max(len(view.columns) for view in views)
    columns = [np.pad(view.columns, (0, width - len(view.columns)), constant_values=empty) for view in views]
    limits = [np.pad(view.limit, (0, width - len(view.limit)), constant_values=math.inf) for view in views]
    return View(np.concatenate(columns), np.concatenate(limits))
