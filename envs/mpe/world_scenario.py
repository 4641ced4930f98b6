"""World: slow predators chase fast preys among obstacles and food. Kaleidoscope's "World", of 4 against 2 (arXiv
2410.08540), and tasks that differ by the temperament of the preys.

The paper's environment and the networks that play its preys are not public. This is the closest reading: the public
scenario simple_world_comm without its leader, on the physics of Lowe et al. 2017 without walls, and preys that play by
a script, which is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs.core import Observation, Refusal, Task, everyone_else, setting
from envs.mpe.contest import ContestBatch, ContestConfig
from envs.mpe.foresight import Foresight
from envs.mpe.layout import Kind, Layout
from envs.mpe.scenario import Scenario
from envs.mpe.simple_tag import cost_outside
from envs.mpe.world import Body, World

PREDATOR = Body(size=0.075, accel=3.0, max_speed=1.0)
PREY = Body(size=0.045, accel=4.0, max_speed=1.3)
OBSTACLE = Body(size=0.2)
FOOD = Body(size=0.03, collides=False)
FOREST = Body(size=0.3, collides=False)
LANDMARK_RANGE = 0.9  # m
CATCH_DISTANCE = PREDATOR.size + PREY.size  # m
CATCH_REWARD = 5.0  # of a touch, for every predator; the prey loses as much
DISTANCE_COST = 0.1  # per metre to the nearest prey, of each predator
FOOD_REWARD = 2.0  # of a touch, for the prey
FAR_FROM_FOOD = 0.05  # paid to each prey per metre to the nearest food: the public scenario has this sign
SAFE_DISTANCE = 1.0  # m from a predator, beyond which a prey does not care
COASTING = 0.3  # s of their present velocity, after which preys expect predators
OBSTACLE_MARGIN = OBSTACLE.size + PREY.size  # m
EDGE_WEIGHT, OBSTACLE_WEIGHT = 0.5, 2.0  # per unit of what it costs to be outside, and per metre inside the margin


class Temperament(NamedTuple):
    """What a prey's script weighs, per metre."""

    fear: float = 1.0  # of the nearest predator
    hunger: float = 0.1  # for the nearest food
    east: float = 0.0  # how it likes to be there
    north: float = 0.0


TEMPERAMENTS = {  # by split: what each task's preys are like
    "train": {
        "timid": Temperament(),
        "hungry": Temperament(fear=0.1, hunger=1.0),
        "east": Temperament(fear=0.2, hunger=0.0, east=0.6),
        "west": Temperament(fear=0.2, hunger=0.0, east=-0.6),
        "north": Temperament(fear=0.2, hunger=0.0, north=0.6),
        "tame": Temperament(fear=-0.5, hunger=0.0),
    },
    "test": {
        "south": Temperament(fear=0.2, hunger=0.0, north=-0.6),
        "northeast": Temperament(fear=0.2, hunger=0.0, east=0.4, north=0.4),
        "watchful": Temperament(fear=0.5, hunger=0.5),
    },
}


@dataclass(frozen=True)
class WorldConfig(ContestConfig):
    num_preys: int = setting(2, "agents that are chased", low=1)
    num_predators: int = setting(4, "agents that chase them", low=1)
    num_obstacles: int = setting(2, "discs that stand in the way", low=0)
    num_food: int = setting(2, "places where preys like to be", low=1)
    num_forests: int = setting(0, "discs that hide whom they hold from all who are not in the same one", low=0)


class WorldScenario(Scenario):
    """One task: preys are timid."""

    task_name = "timid"
    moves_first = False
    config: WorldConfig

    def _layout(self) -> Layout:
        c = self.config
        landmarks = (OBSTACLE,) * c.num_obstacles + (FOOD,) * c.num_food + (FOREST,) * c.num_forests
        n_others = c.num_predators + c.num_preys - 1
        width = 4 + 2 * len(landmarks) + 4 * n_others + c.num_forests
        predators = Kind(c.num_predators, PREDATOR, width)
        preys = Kind(c.num_preys, PREY, width, played_by=c.opponents)
        return Layout((predators, preys), landmarks, LANDMARK_RANGE)

    def _batch(self, world: World, n_rows: int, generator: torch.Generator) -> WorldBatch:
        return WorldBatch(self, world, n_rows, generator)


class WorldTasks(WorldScenario):
    """A task is a temperament of the preys, which their moves alone tell."""

    def __init__(self, name: str, config: WorldConfig, generator: np.random.Generator) -> None:
        if config.opponents != "scripted":
            raise Refusal(f"opponents={config.opponents} leaves no temperament to infer; expected scripted")
        super().__init__(name, config, generator)
        self.tasks = tuple(
            Task(which, {"temperament": list(temperament)}, tuple(temperament), split)
            for split, each in TEMPERAMENTS.items()
            for which, temperament in each.items()
        )


class WorldBatch(ContestBatch):
    """Rows of ``WorldScenario`` or ``WorldTasks``.

    Observation: own velocity and position; relative positions of obstacles, food, forests and the other agents;
    velocities of these; 1 or -1 for each forest that one is in or not. Zeros stand for those whom a forest hides.
    Reward of a predator: 5 for each touch of a predator and a prey, whoever they are, less a tenth of the distance to
    its nearest prey. A prey loses 5 for each touch and what it costs to be outside; touching food pays 2, and being far
    from the nearest a twentieth of the distance.
    """

    temperament: Tensor  # (B, 4), as in ``Temperament``

    def __init__(self, family: WorldScenario, world: World, n_rows: int, generator: torch.Generator) -> None:
        super().__init__(family, world, n_rows, generator)
        config = family.config
        self._n, self._sizes = config.num_predators, (config.num_obstacles, config.num_food, config.num_forests)
        bodies = [kind.body for kind in self._layout.kinds for _ in range(kind.n_agents)]
        self._body_sizes = torch.tensor([body.size for body in bodies], device=world.device, dtype=world.dtype)
        self._others = everyone_else(len(bodies), world.device).flatten()
        weights = [task.params.get("temperament", Temperament()) for task in family.tasks]
        self._temperaments = torch.tensor(weights, device=world.device, dtype=world.dtype)  # (n_tasks, 4)
        self._foresight = Foresight(PREY, world)

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        fresh = self._temperaments[tasks]
        self.temperament = fresh if where is None else torch.where(where[:, None], fresh, self.temperament)
        return super().reset(tasks, where)

    def _views(self) -> tuple[Tensor, ...]:
        pos, vel, *_ = self.now
        n_agents = pos.shape[1]
        where, others = self._around().split((2 * sum(self._sizes), 2 * (n_agents - 1)), dim=-1)
        moving = vel.index_select(1, self._others).view(len(pos), n_agents, -1)
        parts = [vel, pos, where, others, moving]
        if self._sizes[2]:
            is_inside = self._in_forests()
            seen = self._seen_by(is_inside).unsqueeze(-1)  # (B, M, M - 1, 1)
            parts[3:] = [(part.unflatten(-1, (-1, 2)) * seen).flatten(2) for part in (others, moving)]
            parts.append(2 * is_inside.to(pos.dtype) - 1)
        view = torch.cat(parts, dim=-1)
        return view[:, : self._n], view[:, self._n :].clone()

    def _in_forests(self) -> Tensor:
        """(B, M, n_forests) bool."""
        return self._apart(self._landmarks(2)) < FOREST.size + self._body_sizes[:, None]

    def _seen_by(self, is_inside: Tensor) -> Tensor:
        """Who shares a forest, or like the other is in none: (B, M, M - 1), without oneself."""
        inside, outside = is_inside.to(self.now.pos.dtype), ~is_inside.any(-1)
        together = inside @ inside.transpose(1, 2) + outside[:, :, None].to(inside) * outside[:, None].to(inside)
        n_agents = together.shape[1]
        places = self._others.view(n_agents, n_agents - 1).expand(len(together), -1, -1)
        return (together.gather(2, places) > 0).to(inside.dtype)

    def _payoffs(self) -> tuple[Tensor, ...]:
        predators, preys = self.now.pos.split((self._n, self.now.pos.shape[1] - self._n), dim=1)
        distance = torch.linalg.vector_norm(predators[:, :, None] - preys[:, None], dim=-1)  # (B, n, n_preys)
        caught = CATCH_REWARD * (distance < CATCH_DISTANCE).to(preys.dtype).sum(dim=1)  # (B, n_preys)
        to_food = self._apart(self._landmarks(1))[:, self._n :]  # (B, n_preys, n_food)
        eaten = FOOD_REWARD * (to_food < PREY.size + FOOD.size).to(preys.dtype).sum(-1)
        outside = 2 * cost_outside(preys.abs()).sum(-1)
        paid = caught.sum(dim=1, keepdim=True) - DISTANCE_COST * distance.amin(-1)
        return paid, eaten - caught - outside + FAR_FROM_FOOD * to_food.amin(-1)

    def _landmarks(self, which: int) -> Tensor:
        """Of obstacles (0), food (1) or forests (2): (B, n, 2)."""
        return self.now.landmarks.split(self._sizes, dim=1)[which]

    def _apart(self, places: Tensor) -> Tensor:
        """From each agent to each of ``places`` (B, n, 2): (B, M, n)."""
        return torch.linalg.vector_norm(self.now.pos[:, :, None] - places[:, None], dim=-1)

    def _script(self) -> Tensor:
        """The move after which, kept up for a few steps, a prey of this temperament is best off."""
        pos, vel, *_ = self.now
        ends = self._foresight.ends(pos[:, self._n :], vel[:, self._n :])  # (B, n_preys, moves, 2)
        expected = pos[:, : self._n] + COASTING * vel[:, : self._n]
        fear, hunger, east, north = self.temperament[:, None, None].unbind(-1)  # (B, 1, 1) each
        safe = _between(ends, expected).amin(-1).clamp(max=SAFE_DISTANCE)
        inside = (OBSTACLE_MARGIN - _between(ends, self._landmarks(0))).clamp(min=0).sum(-1)
        score = fear * safe - hunger * _between(ends, self._landmarks(1)).amin(-1)
        score = score + east * ends[..., 0] + north * ends[..., 1]
        outside = cost_outside(ends.abs()).sum(-1)
        return self._foresight.best(score - EDGE_WEIGHT * outside - OBSTACLE_WEIGHT * inside)


def _between(ends: Tensor, places: Tensor) -> Tensor:
    """Distances (B, n, moves, n_places) of ``ends`` (B, n, moves, 2) and ``places`` (B, n_places, 2)."""
    return torch.linalg.vector_norm(ends[..., None, :] - places[:, None, None], dim=-1)
