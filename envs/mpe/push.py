"""Push: a team keeps opponents off a goal that only they know: Kaleidoscope's "Push", 5 against 2 (arXiv 2410.08540).

The paper's environment and the networks that play its opponents are not public. This is the closest reading: the public
scenario simple_push with more agents on each side, on the physics of Lowe et al. 2017 without walls, and opponents
who play by a script.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from envs.core import setting
from envs.mpe.contest import ContestBatch, ContestConfig
from envs.mpe.foresight import Foresight
from envs.mpe.layout import Kind, Layout
from envs.mpe.scenario import Scenario
from envs.mpe.world import Body, World

AGENT = Body(size=0.05)
LANDMARK = Body(size=0.05, collides=False)
N_LANDMARKS = 2  # by whose colours opponents know the goal
LANDMARK_COLOURS = ((0.1, 0.9, 0.1), (0.1, 0.1, 0.9))
OPPONENT_COLOUR, GOAL_TINT = 0.25, 0.5  # grey, and the goal's own channel is that much brighter


@dataclass(frozen=True)
class PushConfig(ContestConfig):
    num_pushers: int = setting(5, "agents that keep opponents off the goal", low=1)
    num_opponents: int = setting(2, "agents that make for it", low=1)


class Push(Scenario):
    task_name = "push"
    moves_first = False
    colours = LANDMARK_COLOURS
    config: PushConfig

    def _layout(self) -> Layout:
        n, n_opponents = self.config.num_pushers, self.config.num_opponents
        seen_by_all = 2 + 2 * (N_LANDMARKS + n + n_opponents - 1)
        opponents = Kind(n_opponents, AGENT, seen_by_all + 2 + 3 * (1 + N_LANDMARKS), played_by=self.config.opponents)
        return Layout((Kind(n, AGENT, seen_by_all), opponents), (LANDMARK,) * N_LANDMARKS, n_goals=1)

    def _batch(self, world: World, n_rows: int, generator: torch.Generator) -> PushBatch:
        return PushBatch(self, world, n_rows, generator)


class PushBatch(ContestBatch):
    """Rows of ``Push``.

    Observation: own velocity; relative positions of landmarks and of the other agents. Opponents also see where the
    goal is from them, their own colour, which has the goal's tint, and the landmarks' colours.
    Reward: the distance from the goal to the opponent nearest to it, less one's own; an opponent's is minus its own.
    """

    def __init__(self, family: Push, world: World, n_rows: int, generator: torch.Generator) -> None:
        super().__init__(family, world, n_rows, generator)
        self._n = family.config.num_pushers
        tint = torch.eye(3, device=world.device, dtype=world.dtype)[1:]  # (L, 3)
        self._opponent_colours = OPPONENT_COLOUR + GOAL_TINT * tint
        self._foresight = Foresight(AGENT, world)

    def _views(self) -> tuple[Tensor, ...]:
        pos, vel, _, goals, *_ = self.now
        n_opponents = pos.shape[1] - self._n
        around = self._around()
        goal = self._goal_places() - pos[:, self._n :]
        own = (goals @ self._opponent_colours).expand(-1, n_opponents, -1)
        landmarks = self._colours.flatten().expand(len(pos), n_opponents, -1)
        where, others = around[:, self._n :].split((2 * N_LANDMARKS, around.shape[-1] - 2 * N_LANDMARKS), dim=-1)
        opponents = torch.cat((vel[:, self._n :], goal, own, where, landmarks, others), dim=-1)
        return torch.cat((vel, around), dim=-1)[:, : self._n], opponents

    def _payoffs(self) -> tuple[Tensor, ...]:
        distance = torch.linalg.vector_norm(self.now.pos - self._goal_places(), dim=-1)  # (B, n + n_opponents)
        pushers, opponents = distance[:, : self._n], distance[:, self._n :]
        return opponents.amin(dim=1, keepdim=True) - pushers, -opponents

    def _script(self) -> Tensor:
        """The move after which, kept up for a few steps, the goal is nearest."""
        ends = self._foresight.ends(self.now.pos[:, self._n :], self.now.vel[:, self._n :])
        distance = torch.linalg.vector_norm(ends - self._goal_places()[:, :, None], dim=-1)  # (B, n_opponents, moves)
        return self._foresight.best(-distance)
