"""simple_tag of mpe2: slow adversaries catch fast preys among obstacles."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from envs.core import everyone_else, setting
from envs.mpe.contest import ContestBatch, ContestConfig
from envs.mpe.layout import LEARNING, Kind, Layout
from envs.mpe.scenario import Scenario
from envs.mpe.world import Body, Motion, World, resting_place

ADVERSARY = Body(size=0.075, accel=3.0, max_speed=1.0)
PREY = Body(size=0.05, accel=4.0, max_speed=1.3)
OBSTACLE = Body(size=0.2)
OBSTACLE_RANGE = 0.9  # m
CATCH_DISTANCE = ADVERSARY.size + PREY.size  # m
CATCH_REWARD = 10.0  # of a touch, for every adversary; the prey loses as much
EDGE = 0.9  # m on either axis, beyond which it costs a prey to be: 10 per metre at first
HIGHEST_COST = 10.0


@dataclass(frozen=True)
class SimpleTagConfig(ContestConfig):
    num_good: int = setting(1, "preys, which are good agents in mpe2", low=1)
    num_adversaries: int = setting(3, "agents that catch them", low=1)
    num_obstacles: int = setting(2, "discs that stand in the way", low=0)


class SimpleTag(Scenario):
    task_name = "catch"
    config: SimpleTagConfig

    def _layout(self) -> Layout:
        config = self.config
        n, n_preys = config.num_adversaries, config.num_good
        seen_by_all = 4 + 2 * (config.num_obstacles + n + n_preys - 1)
        adversaries = Kind(n, ADVERSARY, seen_by_all + 2 * n_preys)
        preys = Kind(n_preys, PREY, seen_by_all + 2 * (n_preys - 1), played_by=config.opponents)
        is_shared = config.opponents != LEARNING
        return Layout((adversaries, preys), (OBSTACLE,) * config.num_obstacles, OBSTACLE_RANGE, shared_reward=is_shared)

    def _batch(self, world: World, n_rows: int, generator: torch.Generator) -> SimpleTagBatch:
        return SimpleTagBatch(self, world, n_rows, generator)


class SimpleTagBatch(ContestBatch):
    """Rows of ``SimpleTag``.

    Observation: own velocity and position; relative positions of obstacles and of the other agents; velocities of the
    (other) preys.
    Reward: 10 to every adversary for each touch of an adversary and a prey; a prey loses 10 for each adversary that
    touches it, and what it costs to leave the area.
    """

    def __init__(self, family: SimpleTag, world: World, n_rows: int, generator: torch.Generator) -> None:
        super().__init__(family, world, n_rows, generator)
        self._n, self._n_preys = family.config.num_adversaries, family.config.num_good
        self._other_preys = everyone_else(self._n_preys, world.device).flatten()

    def _views(self) -> tuple[Tensor, ...]:
        n, n_preys, (pos, vel, *_) = self._n, self._n_preys, self.now
        seen_by_all = torch.cat((vel, pos, self._around()), dim=-1)
        all_preys = vel[:, None, n:].flatten(2).expand(-1, n, -1)
        other_preys = vel[:, n:].index_select(1, self._other_preys).view(len(pos), n_preys, 2 * (n_preys - 1))
        adversaries = torch.cat((seen_by_all[:, :n], all_preys), dim=-1)
        return adversaries, torch.cat((seen_by_all[:, n:], other_preys), dim=-1)

    def _payoffs(self) -> tuple[Tensor, ...]:
        touches = (self._distances() < CATCH_DISTANCE).to(self.now.pos.dtype)  # (B, n, n_preys)
        caught = CATCH_REWARD * touches.sum(dim=1)  # (B, n_preys)
        outside = cost_outside(self.now.pos[:, self._n :].abs()).sum(-1)
        return caught.sum(dim=1, keepdim=True).expand(-1, self._n), -caught - outside

    def _distances(self) -> Tensor:
        """From each adversary to each prey: (B, n, n_preys)."""
        adversaries, preys = self.now.pos[:, :, None].split((self._n, self._n_preys), dim=1)
        return torch.linalg.vector_norm(adversaries - preys.transpose(1, 2), dim=-1)

    def _script(self) -> Tensor:
        """Straight away from the nearest adversary, but inwards on an axis where coasting ends beyond the edge."""
        adversaries, preys = self.now.pos.split((self._n, self._n_preys), dim=1)
        nearest = self._distances().argmin(dim=1)  # (B, n_preys)
        away = preys - adversaries.take_along_dim(nearest[:, :, None], dim=1)
        flight = away / away.abs().amax(-1, keepdim=True).clamp_min(1e-12)  # as hard as the direction allows
        ahead = resting_place(Motion(preys, self.now.vel[:, self._n :]))
        return torch.where(ahead.abs() > EDGE, -ahead.sign(), flight)


def cost_outside(distance: Tensor) -> Tensor:
    """What it costs to be at a distance from the middle, on one axis: the least of a line, an exponential and a limit.

    In mpe2 the line holds up to 1 m and the others beyond; the two cross there, and again only above the limit.
    """
    line = (10 * distance - 9).clamp(0, HIGHEST_COST)
    return torch.minimum(line, (2 * distance - 2).exp())
