"""Rows of PettingZoo environments as a batch."""

from __future__ import annotations

import weakref

import numpy as np
import torch
from torch import Tensor

from envs.core import EnvSpec, Observation, Picture, StepResult
from envs.pettingzoo.rows import Game, Rows, record_type
from envs.pettingzoo.workers import Workers
from envs.streams import Drawn, RowStreams

MAX_SEED = 2**31  # seeds that every random generator takes are below it


class BatchMaker:
    """Makes a family's batches, played by ``n_workers`` processes, or by this one if there are none.

    Workers of a batch that is gone play the next one of its size, since they take seconds to start. They stay until the
    process ends: ``n_workers`` for each number of rows that there has been, their environments open.
    """

    def __init__(self, game: Game, *, n_workers: int, timeout: float) -> None:
        self._game, self._n_workers, self._timeout = game, n_workers, timeout
        self._idle: list[Workers] = []

    def make(self, n_rows: int, generator: torch.Generator) -> PettingZooBatch:
        if not self._n_workers:
            rows = Rows(self._game, np.zeros(n_rows, record_type(self._game.spec)))
            batch = PettingZooBatch(self._game.spec, rows, generator)
            weakref.finalize(batch, rows.close)
            return batch
        workers = self._workers(n_rows)
        batch = PettingZooBatch(self._game.spec, workers, generator)
        weakref.finalize(batch, self._idle.append, workers)
        return batch

    def drawn(self) -> BatchMaker:
        """One whose environments draw themselves, in this process: pictures are not for workers to send."""
        return BatchMaker(self._game._replace(is_drawn=True), n_workers=0, timeout=self._timeout)

    def _workers(self, n_rows: int) -> Workers:
        for workers in self._idle:
            if len(workers.records) == n_rows and workers.can_play:
                self._idle.remove(workers)
                workers.forget()
                return workers
        return Workers(self._game, n_rows, self._n_workers, self._timeout)


class PettingZooBatch:
    """Rows in this process, or in workers: the same numbers, bit for bit."""

    def __init__(self, spec: EnvSpec, rows: Rows | Workers, generator: torch.Generator) -> None:
        self.spec, self.n_rows = spec, len(rows.records)
        self._rows = rows
        self._device = generator.device
        self._streams = RowStreams(generator, self.n_rows)

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        records, (drawn,) = self._rows.records, self._streams.restart(self._draw, where)
        seeds = drawn.cpu().numpy()
        restart = np.ones(self.n_rows, bool) if where is None else where.cpu().numpy()
        records["restart"] = restart
        records["task"] = np.where(restart, tasks.cpu().numpy(), records["task"])
        records["seed"] = np.where(restart, seeds, records["seed"])
        self._rows.reset()
        return Observation(self._shown("obs"), self._shown("state"), self._legal(), self._shown("alive"))

    def step(self, action: Tensor) -> StepResult:
        self._rows.records["action"] = action.detach().cpu().numpy()
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

    def scene(self, row: int) -> Picture | None:
        """What its environment draws, where it was made for that: see ``BatchMaker.drawn``. Raises CannotDraw."""
        return self._rows.picture(row) if isinstance(self._rows, Rows) else None

    def _draw(self, generator: torch.Generator) -> Drawn:
        """Seeds of the environments: (B,)."""
        return (torch.randint(MAX_SEED, (self.n_rows,), generator=generator, device=generator.device),)

    def _shown(self, name: str) -> Tensor:
        return torch.tensor(self._rows.records[name], device=self._device)

    def _legal(self) -> Tensor | None:
        return self._shown("legal") if self.spec.is_discrete else None
