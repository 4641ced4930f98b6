"""A robot of MuJoCo, divided among agents, as a family of tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from envs.core import Task, TaskFamily
from envs.mujoco.batch import MujocoBatch
from envs.mujoco.imports import versions
from envs.mujoco.team import MujocoConfig, Team


class MujocoFamily(TaskFamily):
    """One robot. A subclass draws tasks; here there is one, to run forwards, as the field's benchmarks have it.

    ``params`` of tasks: a "direction" (x, y) to run in, or a "speed" [m/s] to keep; what differs in the robot's model
    (see ``changed``).
    """

    config: Any

    def __init__(self, name: str, config: MujocoConfig, generator: np.random.Generator) -> None:
        super().__init__(f"{name} ({config.agent_conf}, {config.regime})", config, generator)
        self.config = config
        self.made_by = {**versions(), "robot": config.robot, "observation": config.regime}
        self.team = Team(config)
        self.spec = self.team.spec
        self.tasks = self._draw(generator)

    def make(
        self,
        n_rows: int,
        device: torch.device,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> MujocoBatch:
        return MujocoBatch(self.team, self.tasks, n_rows, generator, name=self.name, dtype=dtype)

    def _draw(self, generator: np.random.Generator) -> tuple[Task, ...]:
        return (Task("run", {}, (1.0,)),)
