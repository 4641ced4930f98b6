"""Scenarios with opponents, who play by a script, at random, or as agents that learn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from envs.core import setting
from envs.mpe.layout import LEARNING, MOVES, ScenarioConfig
from envs.mpe.scenario import Scenario, ScenarioBatch
from envs.mpe.world import World
from envs.streams import Drawn


class ContestBatch(ScenarioBatch):
    """Rows of a scenario with opponents.

    A subclass says what each kind of agent sees and is paid, and by what script opponents play.
    """

    def __init__(self, family: Scenario, world: World, n_rows: int, generator: torch.Generator) -> None:
        super().__init__(family, world, n_rows, generator)
        self._learning = [number for number, kind in enumerate(self._layout.kinds) if kind.played_by == LEARNING]

    @abstractmethod
    def _views(self) -> tuple[Tensor, ...]:
        """What agents see, kind after kind: (B, n, obs_size), tensors of their own."""

    @abstractmethod
    def _payoffs(self) -> tuple[Tensor, ...]:
        """What agents are paid, kind after kind: (B, n)."""

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

    def _obs(self) -> Tensor:
        views, width = self._views(), self.spec.obs_dim
        learners = [_padded(views[number], width) for number in self._learning]
        return torch.cat(learners, dim=1) if len(learners) > 1 else learners[0]

    def _reward(self) -> Tensor:
        payoffs = self._payoffs()
        return torch.cat([payoffs[number] for number in self._learning], dim=1)

    def _scripted(self, n_agents: int) -> Tensor:
        """The actions nearest to what the script wants: (B, n), or (B, n, 2)."""
        wanted = self._script()
        if not self.spec.is_discrete:
            return wanted
        stillness = self._meanings.square().sum(-1) / 2  # (n_actions,)
        return (wanted @ self._meanings.T - stillness).argmax(-1)

    def _random(self, n_agents: int) -> Tensor:
        """Actions that are all equally likely: (B, n), or (B, n, 2)."""
        shape, device = (self._n_rows, n_agents), self._world.device

        def draw(generator: torch.Generator) -> Drawn:
            if self.spec.is_discrete:
                return (torch.randint(len(MOVES), shape, device=device, generator=generator),)
            return (self._uniform(generator, (*shape, 2), -1.0, 1.0),)

        return self._streams.step(draw)[0]


def _padded(view: Tensor, width: int) -> Tensor:
    missing = width - view.shape[-1]
    return F.pad(view, (0, missing)) if missing else view


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
