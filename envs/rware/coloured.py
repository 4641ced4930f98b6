"""``rware-color``: agents with functions of their own, after SePS (Christianos et al. 2021, arXiv 2102.07475).

From there is the rule that an agent delivers shelves of its colour alone; the rest is settled here. Shelves have
colours, by number, so that every part of the warehouse has all; a shelf that nobody requests shows none, a requested
one shows its colour to all who see it; whose colour is which is shown to nobody. A shelf on a goal counts as delivered
if its carrier has its colour, and otherwise stays requested. Each colour has its share of the requests, always.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from envs.core import Refusal, Task, refuse_many_tasks, setting
from envs.rware.family import Crew, Job, RegisteredConfig, WarehouseFamily, one_hot
from envs.rware.layout import Layout, registered


@dataclass(frozen=True)
class ColouredConfig(RegisteredConfig):
    n_colours: int = setting(2, "colours of shelves, and of agents", low=2)
    roles: str = setting(
        "fixed", "which agent has which colour: always the same, or the hidden task", choices=("fixed", "hidden")
    )
    max_tasks: int = setting(64, "assignments of colours, if roles are hidden and there are so many", low=2)
    held_out: float = setting(0.25, "share of them that is never trained on", low=0.0, high=0.9)

    def __post_init__(self) -> None:
        refuse_colours(self.n_colours, self.registration)

    @property
    def regime(self) -> str:
        return f"{self.registration}-{self.roles}"


class Coloured(WarehouseFamily):
    """As many agents of each colour, or almost. Fixed roles: the first agents have the first colour, and so on."""

    random_play_tells: ClassVar[bool] = False  # roles show in what deliveries are paid, and those are rare
    config: ColouredConfig

    def __init__(self, name: str, config: ColouredConfig, generator: np.random.Generator) -> None:
        super().__init__(f"{name} ({config.regime})", config, generator)
        if config.roles == "fixed":
            self.true_groups = self._ordered()
            self.spec = self.spec._replace(agent_types=self.true_groups)

    def _crew(self) -> Crew:
        _, n_agents, n_requests = registered(self.config.registration)
        return Crew(n_agents, n_requests, self.config.n_colours)

    def _draw(self, generator: np.random.Generator) -> tuple[Job, ...]:
        ordered = self._ordered()
        if self.config.roles == "fixed":
            return (self._job(ordered, "train"),)
        n_tasks = min(self.config.max_tasks, _n_assignments(ordered))
        refuse_many_tasks(f"max_tasks={self.config.max_tasks}", n_tasks, len(ordered) * self.config.n_colours)
        drawn: dict[tuple[int, ...], None] = {}  # in the order they are drawn in
        while len(drawn) < n_tasks:
            drawn[tuple(generator.permutation(ordered).tolist())] = None
        n_train = n_tasks - math.ceil(n_tasks * self.config.held_out)
        return tuple(self._job(roles, "train" if i < max(1, n_train) else "test") for i, roles in enumerate(drawn))

    def _refuse(self, layout: Layout, crew: Crew) -> None:
        super()._refuse(layout, crew)
        n_shelves, n_requests = len(layout.shelves) // crew.n_colours, math.ceil(crew.n_requests / crew.n_colours)
        if crew.n_requests < crew.n_colours or n_requests >= n_shelves:
            have = f"{crew.n_requests} requests and {len(layout.shelves)} shelves"
            raise Refusal(
                f"{crew.n_colours} colours each need a request, and more shelves than those; there are {have}"
            )

    def _ordered(self) -> tuple[int, ...]:
        """Colours of agents, where the first agents have the first."""
        n_agents, n_colours = self._crew().n_agents, self.config.n_colours
        return tuple(agent * n_colours // n_agents for agent in range(n_agents))

    def _job(self, colours: tuple[int, ...], split: str) -> Job:
        layout = registered(self.config.registration).layout
        features = tuple(value for colour in colours for value in one_hot(colour, self.config.n_colours))
        params = {"layout": layout.lines, "colours": list(colours)}
        return Job(Task("colours-" + "".join(map(str, colours)), params, features, split), layout, colours)


def refuse_colours(n_colours: int, registration: str) -> None:
    """Raises ValueError where a registered warehouse has fewer agents than there are colours."""
    n_agents = registered(registration).n_agents
    if n_colours > n_agents:
        raise Refusal(f"n_colours={n_colours} is more than the {n_agents} agents of {registration}")


def _n_assignments(colours: tuple[int, ...]) -> int:
    """In how many ways these can be given to agents."""
    ways = math.factorial(len(colours))
    for colour in set(colours):
        ways //= math.factorial(colours.count(colour))
    return ways
