"""B simulations of a robot, stepped together by MuJoCo's own native threads (``mujoco.batch``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from envs.mujoco.robots import Array

if TYPE_CHECKING:
    import mujoco


class Simulator:
    """Each row runs on the model of its own task, as alone: bit for bit, whatever the number of threads.

    qpos (B, nq), qvel (B, nv): now. Other fields are MuJoCo's, one substep behind, as in Gymnasium.

    ``feels_forces``: external forces on bodies are computed too. They depend on what the last substep left behind, so
    this takes two short native calls for each row that touches something; all else is one call for all rows.
    """

    def __init__(
        self,
        models: Sequence[mujoco.MjModel],
        n_rows: int,
        n_substeps: int,
        n_threads: int,
        *,
        feels_forces: bool = False,
    ) -> None:
        import mujoco
        from mujoco.batch import Batch

        self._mujoco = mujoco
        self._models = models
        self._tasks = [0] * n_rows  # of each row
        self._n_substeps = n_substeps
        self._batch = Batch(models[0], n_rows, n_threads, persistent=feels_forces)
        self.qpos: Array = self._batch.bind("qpos")
        self.qvel: Array = self._batch.bind("qvel")
        self._control: Array = self._batch.bind("ctrl")
        kinds = mujoco.mjtWarning
        first, last = kinds.mjWARN_BADQPOS.value, kinds.mjWARN_BADCTRL.value
        self._n_failures = self._batch.warning[:, first : last + 1, 1]  # a view: (B, 4)
        self.body_mass: Array = models[0].body_mass
        self._feels_forces = feels_forces
        self._n_contacts = self._batch.bind("ncon")  # (B,)
        self._forces = np.zeros((n_rows, models[0].nbody, 6))
        self._data = mujoco.MjData(models[0])

    @property
    def n_threads(self) -> int:
        return int(self._batch.nthread)

    def field(self, name: str) -> Array:
        """Numbers of MuJoCo's data by name, (B, ...): later steps change them."""
        forces = self._forces
        return forces if name == "cfrc_ext" and self._feels_forces else self._batch.bind(name)

    def reset(self, rows: NDArray[np.int32], tasks: Sequence[int], qpos: Array, qvel: Array) -> None:
        """Start the rows (n,) anew in a state (n, nq), (n, nv), each on the model of its task."""
        for row, task in zip(rows.tolist(), tasks, strict=True):
            self._tasks[row] = task
        if len(self._models) > 1:
            self._batch.set_models([self._models[task] for task in self._tasks])
        self._batch.reset(rows, stage=self._mujoco.mjtStage.mjSTAGE_NONE.value)
        self.qpos[rows], self.qvel[rows] = qpos, qvel
        self._batch.forward(rows)
        if self._feels_forces:
            self._forces[rows] = 0.0  # as in Gymnasium, until the first step

    def step(self, control: Array) -> None:
        """``n_substeps`` under control (B, nu)."""
        self._control[:] = control
        self._batch.step(nstep=self._n_substeps)
        if self._feels_forces:
            data, forces = self._data, self._forces
            forces[:] = 0.0
            for row in np.flatnonzero(self._n_contacts).tolist():
                self._batch.get_data(row, data)
                self._mujoco.mj_rnePostConstraint(self._models[self._tasks[row]], data)
                forces[row] = data.cfrc_ext

    def now(self, row: int) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """A row's model, and a copy of its state with all that follows from it, to draw it."""
        model = self._models[self._tasks[row]]
        data = self._batch.get_data(row)
        self._mujoco.mj_forward(model, data)
        return model, data

    def failed(self) -> NDArray[np.int64]:
        """Rows in which MuJoCo met numbers it cannot go on with: it starts them again, or acts with 0, by itself."""
        return np.flatnonzero(self._n_failures.any(axis=1))
