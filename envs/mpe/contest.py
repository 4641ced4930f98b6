"""Scenarios with opponents, who play by a script, at random, or as agents that learn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from envs.core import setting
from envs.mpe.layout import LEARNING, MOVES, ScenarioConfig
from envs.mpe.scenario import ScenarioBatch


class ContestBatch(ScenarioBatch):
    """Rows of a scenario with opponents. A subclass says by what script they play."""

    @abstractmethod
    def _script(self) -> Tensor:
        """What opponents would do with free forces: (B, n, 2), in units of their ``accel``."""

    def _everyones(self, action: Tensor) -> Tensor:
        kinds = self._layout.kinds
        if len(self._learning) == len(kinds):
            return action
        learners = iter(action.split([kinds[number].n_agents for number in self._learning], dim=1))
        acted = [next(learners) if k.played_by == LEARNING else OPPONENTS[k.played_by](self, k.n_agents) for k in kinds]
        return torch.cat(acted, dim=1)

    def _scripted(self, n_agents: int) -> Tensor:
        """The actions nearest to what the script wants: (B, n), or (B, n, 2)."""
        wanted = self._script()
        if not self.spec.is_discrete:
            return wanted
        stillness = self._moves.square().sum(-1) / 2  # (n_actions,)
        return (wanted @ self._moves.T - stillness).argmax(-1)

    def _random(self, n_agents: int) -> Tensor:
        """Actions that are all equally likely: (B, n), or (B, n, 2)."""
        shape, device = (self._n_rows, n_agents), self._world.device
        if self.spec.is_discrete:
            return torch.randint(len(MOVES), shape, device=device, generator=self._generator)
        return self._uniform((*shape, 2), -1.0, 1.0)


OPPONENTS: dict[str, Callable[[ContestBatch, int], Tensor]] = {
    "scripted": ContestBatch._scripted,
    "uniform": ContestBatch._random,
}
PLAYERS = (*OPPONENTS, LEARNING)


@dataclass(frozen=True)
class ContestConfig(ScenarioConfig):
    opponents: str = setting(
        "scripted",
        "how opponents play: by the scenario's script, at random, or as agents like the others, paid as in mpe2",
        choices=PLAYERS,
    )
