"""Rows of a MuJoCo family: what a robot's step pays, whether it has fallen, and what each agent sees."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.core import EnvFailure, EnvSpec, Observation, Picture, StepResult, Task
from envs.mujoco.camera import Camera
from envs.mujoco.models import changed
from envs.mujoco.robots import Array, Robot
from envs.mujoco.simulator import Simulator
from envs.mujoco.team import Team
from envs.streams import Drawn, RowStreams


class MujocoBatch:
    """B rows, simulated on the CPU in float64; records are on the generator's device.

    Reward of every agent, after Gymnasium: velocity along the task's direction (or minus how far it is from the task's
    speed), and a bonus for each step without a fall, less what actions and contacts cost.
    """

    spec: EnvSpec

    def __init__(
        self,
        team: Team,
        tasks: Sequence[Task],
        n_rows: int,
        generator: torch.Generator,
        *,
        name: str,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        robot, model = team.robot, team.model
        self.spec = team.spec
        self._team, self._robot, self._tasks, self._name = team, robot, tasks, name
        self._n_rows, self._device, self._dtype = n_rows, generator.device, dtype
        self._streams = RowStreams(generator, n_rows)
        models = [changed(model, task.params) for task in tasks]
        threads = torch.get_num_threads()
        self.simulator = Simulator(models, n_rows, robot.n_substeps, threads, feels_forces=robot.feels_forces)
        fields = [self.simulator.field(field.name).reshape(n_rows, -1) for field in robot.fields]
        self._fields = [*fields, np.zeros((n_rows, 1))]  # the zero pads what agents see
        self._place = _place_of(robot, self.simulator)
        self._step_time = model.opt.timestep * robot.n_substeps  # s
        self._rest = np.concatenate((model.qpos0, np.zeros(model.nv)))
        self._directions = np.array([task.params.get("direction", (1.0, 0.0)) for task in tasks])  # (n_tasks, 2)
        self._speeds = np.array([task.params.get("speed", math.nan) for task in tasks])  # (n_tasks,)
        self._camera: Camera | None = None  # made when the first picture is asked for
        self._task = np.zeros(n_rows, dtype=np.int64)  # of each row
        self._elapsed = np.zeros(n_rows, dtype=np.int64)

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        rows = np.arange(self._n_rows) if where is None else np.flatnonzero(where.cpu().numpy())
        (drawn,) = self._streams.restart(self._draw, where)
        noise = self._robot.reset_noise * drawn.cpu().numpy()[rows]
        self._task[rows] = tasks.cpu().numpy()[rows]
        qpos, qvel = np.split(self._rest + noise, [self.simulator.qpos.shape[1]], axis=1)
        if len(rows):
            self.place(rows, qpos, qvel)
        return Observation(*self._seen(), None, self._all_alive())

    def place(self, rows: NDArray[np.int64], qpos: Array, qvel: Array) -> None:
        """Start an episode of the rows (n,) in a given state (n, nq), (n, nv)."""
        self.simulator.reset(rows.astype(np.int32), self._task[rows].tolist(), qpos, qvel)
        self._elapsed[rows] = 0

    def step(self, action: Tensor) -> StepResult:
        robot, simulator = self._robot, self.simulator
        control = self._team.control(action)
        before = self._place()
        simulator.step(control)
        velocity = (self._place() - before) / self._step_time  # (B, 2)
        self._elapsed += 1
        reward = self._progress(velocity) - robot.control_cost * np.square(control).sum(axis=1)
        terminated = np.zeros(self._n_rows, dtype=bool)
        if robot.is_healthy is not None:
            healthy = robot.is_healthy(simulator.qpos, simulator.qvel)
            reward += robot.healthy_reward * healthy
            terminated = ~healthy
        if robot.contact_cost:
            reward -= self._contact_cost()
        self._refuse_failures()
        truncated = (self._elapsed >= self.spec.episode_steps) & ~terminated
        obs, state = self._seen()
        return StepResult(
            obs=obs,
            state=state,
            reward=self._tensor(reward)[:, None].repeat(1, self.spec.n_agents),
            terminated=torch.from_numpy(terminated).to(self._device),
            truncated=torch.from_numpy(truncated).to(self._device),
            legal=None,
            alive=self._all_alive(),
        )

    def scene(self, row: int) -> Picture:
        """Raises CannotDraw."""
        model, data = self.simulator.now(row)
        if self._camera is None or self._camera.model is not model:
            self._camera = Camera(model)
        return self._camera.picture(data)

    def _seen(self) -> tuple[Tensor, Tensor]:
        """Observations (B, N, obs_dim) and states (B, state_dim)."""
        everything = np.concatenate(self._fields, axis=1)
        return self._tensor(self._team.obs(everything)), self._tensor(self._team.state(everything))

    def _progress(self, velocity: Array) -> Array:
        """What a velocity (B, 2) [m/s] is paid: (B,)."""
        speed = self._speeds[self._task]
        forward = self._robot.forward_weight * (velocity * self._directions[self._task]).sum(axis=1)
        return np.where(np.isnan(speed), forward, -np.abs(velocity[:, 0] - speed))

    def _contact_cost(self) -> Array:
        robot, forces = self._robot, self.simulator.field("cfrc_ext")
        (limit,) = (field.limit for field in robot.fields if field.name == "cfrc_ext")
        squares: Array = np.square(forces.clip(-limit, limit)).sum(axis=(1, 2))
        return (robot.contact_cost * squares).clip(max=robot.largest_contact_cost)

    def _draw(self, generator: torch.Generator) -> Drawn:
        """Noise of positions and velocities at the start, of size 1: (B, nq + nv)."""
        n_positions, n_velocities = self.simulator.qpos.shape[1], self.simulator.qvel.shape[1]
        shape = (self._n_rows, n_positions + n_velocities)
        noise = torch.rand(shape, dtype=torch.float64, device=generator.device, generator=generator) * 2 - 1
        if self._robot.has_normal_velocities:
            noise[:, n_positions:].normal_(generator=generator)
        return (noise,)

    def _refuse_failures(self) -> None:
        if len(failed := self.simulator.failed()):
            tasks = ", ".join(sorted({self._tasks[self._task[row]].name for row in failed}))
            raise EnvFailure(f"{self._name}: the simulation became unstable, or was given no numbers, in {tasks}")

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self._device, self._dtype)

    def _all_alive(self) -> Tensor:
        return torch.ones(self._n_rows, self.spec.n_agents, dtype=torch.bool, device=self._device)


def _place_of(robot: Robot, simulator: Simulator) -> Callable[[], Array]:
    """What says where in the plane a robot is, (B, 2): its velocity is how that changes."""
    if robot.moves_by == "torso":
        torso = simulator.field("xpos")
        return lambda: torso[:, 1, :2].copy()
    if robot.moves_by == "centre of mass":
        bodies, shares = simulator.field("xipos"), simulator.body_mass / simulator.body_mass.sum()
        return lambda: np.einsum("b,rbx->rx", shares, bodies)[:, :2]
    return lambda: simulator.qpos[:, :2].copy()
