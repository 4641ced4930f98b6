"""Rows of PettingZoo environments as a batch."""

from __future__ import annotations

from multiprocessing.util import Finalize

import numpy as np
import torch
from torch import Tensor

from envs.core import Observation, Scene, StepResult
from envs.pettingzoo.rows import Game, Rows, record_type
from envs.pettingzoo.workers import Workers

MAX_SEED = 2**31  # seeds that every random generator takes are below it


class PettingZooBatch:
    """Rows in this process, or in ``n_workers`` others: the same numbers, bit for bit."""

    def __init__(self, game: Game, n_rows: int, generator: torch.Generator, *, n_workers: int, timeout: float) -> None:
        self.spec, self.n_rows = game.spec, n_rows
        self._generator = generator
        self._rows: Rows | Workers
        if n_workers:
            self._rows = Workers(game, n_rows, n_workers, timeout)
            self._records = self._rows.records
        else:
            self._records = np.zeros(n_rows, record_type(game.spec))
            self._rows = Rows(game, self._records)
            Finalize(self, self._rows.close, exitpriority=0)

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        records, device = self._records, self._generator.device
        seeds = torch.randint(MAX_SEED, (self.n_rows,), generator=self._generator, device=device).cpu().numpy()
        restart = np.ones(self.n_rows, bool) if where is None else where.cpu().numpy()
        records["restart"] = restart
        records["task"] = np.where(restart, tasks.cpu().numpy(), records["task"])
        records["seed"] = np.where(restart, seeds, records["seed"])
        self._rows.reset()
        return Observation(self._shown("obs"), self._shown("state"), self._legal(), self._shown("alive"))

    def step(self, action: Tensor) -> StepResult:
        self._records["action"] = action.detach().cpu().numpy()
        self._rows.step()
        return StepResult(
            obs=self._shown("obs"),
            state=self._shown("state"),
            reward=self._shown("reward"),
            terminated=self._shown("terminated"),
            truncated=self._shown("truncated"),
            legal=self._legal(),
            alive=self._shown("alive"),
        )

    def scene(self, row: int) -> Scene | None:
        """None: what an environment looks like is its own business."""
        return None

    def _shown(self, name: str) -> Tensor:
        return torch.tensor(self._records[name], device=self._generator.device)

    def _legal(self) -> Tensor | None:
        return self._shown("legal") if self.spec.is_discrete else None
