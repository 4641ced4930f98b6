"""``rware-color-published``: coloured warehouses as published with SePS (Christianos et al. 2021, arXiv 2102.07475).

``rware-2color-tiny-4ag-hard`` of its authors is ``registration="tiny-4ag-hard", n_colours=2``. The first agents have
the first colour, which also has those that are left over. Sharing across colours is hard on purpose: what a colour
sees is in an order of its own, and its list of actions is rolled by its number. ``published_batch`` has the rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from envs.core import Task, setting
from envs.rware.coloured import refuse_colours
from envs.rware.family import Crew, Job, RegisteredConfig, WarehouseFamily
from envs.rware.floor import REQUEST_SIZE, SELF_SIZE, Array
from envs.rware.layout import registered

if TYPE_CHECKING:
    from envs.rware.published_batch import PublishedBatch


@dataclass(frozen=True)
class PublishedConfig(RegisteredConfig):
    n_colours: int = setting(2, "colours of shelves, and of agents", low=2)

    def __post_init__(self) -> None:
        refuse_colours(self.n_colours, self.registration)


class Published(WarehouseFamily):
    """One task; the orders of what colours see are drawn once, with it.

    A warehouse that ``name`` does not say is added to it.
    """

    config: PublishedConfig
    orders: Array  # (C, obs_dim) int64   what a colour sees at place k is at orders[colour, k] before

    def __init__(self, name: str, config: PublishedConfig, generator: np.random.Generator) -> None:
        warehouse = f"{config.n_colours}color-{config.registration}"
        super().__init__(name if name == f"rware-{warehouse}" else f"{name} ({warehouse})", config, generator)
        self.rules = self.rules._replace(keeps_shares=False)
        n_agents, obs_dim = self.rules.n_agents, self.orders.shape[1]
        of_requests = self.rules.n_requests * (REQUEST_SIZE + config.n_colours)
        self.spec = self.spec._replace(obs_dim=obs_dim, state_dim=n_agents * obs_dim + of_requests)
        self.true_groups = self._jobs[0].colours

    def make(self, n_rows: int, device: torch.device, generator: torch.Generator) -> PublishedBatch:
        from envs.rware.published_batch import PublishedBatch  # not above: it brings the compiler

        return PublishedBatch(self.spec, self._plan(), (self.rules, self.orders), n_rows, generator)

    def _crew(self) -> Crew:
        _, n_agents, n_requests = registered(self.config.registration)
        return Crew(n_agents, n_requests, self.config.n_colours)

    def _draw(self, generator: np.random.Generator) -> tuple[Job, ...]:
        layout, n_agents, _ = registered(self.config.registration)
        n_colours, n_places = self.config.n_colours, (2 * self.config.sensor_range + 1) ** 2
        of_cell = 2 + n_colours  # an agent, its shelf's colour, whether that is requested
        obs_dim = SELF_SIZE + n_places * of_cell
        self.orders = generator.permuted(np.tile(np.arange(obs_dim), (n_colours, 1)), axis=1)
        colours = tuple(max(0, agent - n_agents % n_colours) // (n_agents // n_colours) for agent in range(n_agents))
        params = {"layout": layout.lines, "colours": list(colours), "orders": self.orders.tolist()}
        return (Job(Task(self.config.registration, params, (1.0,)), layout, colours),)
