"""``rware-layout-large``: a task is a layout, made of numbers that are drawn.

Its goal is one crossing of aisles, at the edge or not. Nobody sees goals: who does not know where it is carries shelves
from crossing to crossing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from envs.core import Refusal, Task, setting
from envs.rware.family import Crew, Job, LayoutsConfig, WarehouseFamily
from envs.rware.layout import Layout

Sizes = tuple[tuple[int, ...], ...]
# Columns of shelves two abreast, rows of them, and cells in a column of a row.
KNOWN: Sizes = ((2, 3, 4), (1, 2), (3, 4, 5))
LARGER: Sizes = ((5, 6), (3,), (6, 7))  # each more than in any layout trained on


@dataclass(frozen=True)
class GeneratedConfig(LayoutsConfig):
    n_train: int = setting(120, "layouts to train on", low=1)
    n_test: int = setting(24, "held-out layouts of the same sizes", low=0)
    n_ood: int = setting(24, "held-out layouts larger than any of those", low=0)

    def __post_init__(self) -> None:
        n_known, n_larger = len(blueprints(KNOWN)), len(blueprints(LARGER))
        if self.n_train + self.n_test > n_known or self.n_ood > n_larger:
            wanted = f"n_train={self.n_train}, n_test={self.n_test}, n_ood={self.n_ood}"
            raise Refusal(f"{wanted}: there are {n_known} layouts to train on or hold out, and {n_larger} larger ones")


class Blueprint(NamedTuple):
    """Blocks of shelves, aisles between and all around them, and a goal at one crossing of aisles."""

    columns: int
    rows: int
    column_height: int  # cells
    goal: tuple[int, int]  # of that column and row of crossings

    @property
    def name(self) -> str:
        x, y = self.goal
        return f"{self.columns}x{self.rows}x{self.column_height}-goal-{x}-{y}"

    @property
    def features(self) -> tuple[float, ...]:
        """In [-1, 1] for sizes trained on."""
        longest = (3 * max(KNOWN[0]), (max(KNOWN[2]) + 1) * max(KNOWN[1]))
        numbers = (self.columns, self.rows, self.column_height, *self.layout.goals[0])
        ranges = [*((min(known), max(known)) for known in KNOWN), *((0, most) for most in longest)]
        return tuple(2 * (n - least) / (most - least) - 1 for n, (least, most) in zip(numbers, ranges, strict=True))

    @property
    def layout(self) -> Layout:
        pitch = self.column_height + 1
        width, height = 3 * self.columns + 1, pitch * self.rows + 1
        shelves = tuple((x, y) for y in range(height) for x in range(width) if x % 3 and y % pitch)
        return Layout(width, height, shelves, ((3 * self.goal[0], pitch * self.goal[1]),))


def blueprints(sizes: Sizes) -> list[Blueprint]:
    """All there are."""
    return [
        Blueprint(columns, rows, column_height, goal)
        for columns, rows, column_height in product(*sizes)
        for goal in product(range(columns + 1), range(rows + 1))
    ]


class GeneratedLayouts(WarehouseFamily):
    """A task is a layout; those of the ood split are larger than all that were trained on."""

    config: GeneratedConfig

    def _crew(self) -> Crew:
        return Crew(self.config.n_agents, self.config.n_requests)

    def _draw(self, generator: np.random.Generator) -> tuple[Job, ...]:
        config, jobs = self.config, []
        known, larger = blueprints(KNOWN), blueprints(LARGER)
        inside = [known[i] for i in generator.permutation(len(known))]
        outside = [larger[i] for i in generator.permutation(len(larger))[: config.n_ood]]
        splits = {
            "train": inside[: config.n_train],
            "test": inside[config.n_train : config.n_train + config.n_test],
            "ood": outside,
        }
        for split, chosen in splits.items():
            for plan in chosen:
                task = Task(plan.name, {"layout": plan.layout.lines}, plan.features, split)
                jobs.append(Job(task, plan.layout))
        return tuple(jobs)
