"""``rware-layout-large``: a task is a layout, made of numbers that are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from envs.core import Task, setting
from envs.rware.family import Crew, Job, LayoutsConfig, WarehouseFamily, one_hot
from envs.rware.layout import Layout

SIDES = ("top", "bottom", "left", "right")  # where goals are
PLACES = ("start", "middle", "end")  # of that side
KNOWN = ((2, 3, 4), (1, 2), (3, 4, 5))  # columns of shelves two abreast, rows of them, cells in a column of one row
LARGER = ((5, 6), (3,), (6, 7))  # each more than in any layout trained on


@dataclass(frozen=True)
class GeneratedConfig(LayoutsConfig):
    n_train: int = setting(40, "layouts to train on", low=1)
    n_test: int = setting(10, "held-out layouts of the same sizes", low=0)
    n_ood: int = setting(10, "held-out layouts larger than any of those", low=0)

    def __post_init__(self) -> None:
        n_known, n_larger = len(blueprints(KNOWN)), len(blueprints(LARGER))
        if self.n_train + self.n_test > n_known or self.n_ood > n_larger:
            wanted = f"n_train={self.n_train}, n_test={self.n_test}, n_ood={self.n_ood}"
            raise ValueError(
                f"{wanted}: there are {n_known} layouts to train on or hold out, and {n_larger} larger ones"
            )


class Blueprint(NamedTuple):
    columns: int
    rows: int
    column_height: int  # cells
    side: int  # in SIDES
    place: int  # in PLACES

    @property
    def name(self) -> str:
        return f"{self.columns}x{self.rows}x{self.column_height}-{SIDES[self.side]}-{PLACES[self.place]}"

    @property
    def features(self) -> tuple[float, ...]:
        """In [-1, 1] for sizes trained on."""
        sizes = zip((self.columns, self.rows, self.column_height), KNOWN, strict=True)
        scaled = [2 * (size - min(known)) / (max(known) - min(known)) - 1 for size, known in sizes]
        return (*scaled, self.place - 1.0, *one_hot(self.side, len(SIDES)))

    @property
    def layout(self) -> Layout:
        """Aisles all around the shelves and between blocks of them; two goals next to each other at the edge."""
        pitch = self.column_height + 1
        width, height = 3 * self.columns + 1, pitch * self.rows + 1
        shelves = tuple((x, y) for y in range(height) for x in range(width) if x % 3 and y % pitch)
        is_level = SIDES[self.side] in ("top", "bottom")
        first = ((width if is_level else height) - 2) * self.place // (len(PLACES) - 1)
        edge = {"top": 0, "bottom": height - 1, "left": 0, "right": width - 1}[SIDES[self.side]]
        goals = tuple((at, edge) if is_level else (edge, at) for at in (first, first + 1))
        return Layout(width, height, shelves, goals)


def blueprints(sizes: tuple[tuple[int, ...], ...]) -> list[Blueprint]:
    """All there are."""
    return [Blueprint(*numbers) for numbers in product(*sizes, range(len(SIDES)), range(len(PLACES)))]


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
