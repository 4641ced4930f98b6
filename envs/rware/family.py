"""Warehouses as families of tasks: what rware registers, and layouts that must be found out."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from envs.core import Refusal, Task, TaskFamily, refuse_many_tasks, setting
from envs.extras import require
from envs.rware.floor import REWARDS, Plan, Rules, plan_of, spec_of
from envs.rware.layout import Layout, from_one_line, in_one_line, read_layouts, registered

if TYPE_CHECKING:
    from envs.rware.batch import WarehouseBatch

PAPERS_LAYOUTS = Path(__file__).with_name("papers_layouts.txt")  # MG2L's


@dataclass(frozen=True)
class WarehouseConfig:
    sensor_range: int = setting(1, "cells that agents see to each side", low=0)
    reward: str = setting(
        "individual",
        "who is paid for a delivery: all, whoever made it, or that one in two parts, the second for the shelf put away",
        choices=REWARDS,
    )
    episode_steps: int = setting(500, "time limit of an episode [steps]", low=1)
    max_inactivity_steps: int = setting(0, "steps without a delivery after which an episode ends; 0: never", low=0)


class Crew(NamedTuple):
    """Who works, and on what, in all tasks of a family."""

    n_agents: int
    n_requests: int
    n_colours: int = 1


class Job(NamedTuple):
    """A task, and what it is."""

    task: Task
    layout: Layout
    colours: tuple[int, ...] = ()  # that each agent delivers; empty: there is one


class WarehouseFamily(TaskFamily):
    """Tasks in warehouses. Actions and observations are rware's; the state is described in ``warehouse.observe``.

    A subclass says who works there, and draws jobs.
    """

    config: Any

    def __init__(self, name: str, config: WarehouseConfig, generator: np.random.Generator) -> None:
        super().__init__(name, config, generator)
        require("numba")
        self.config = config
        crew, self._jobs = self._crew(), self._draw(generator)
        for job in self._jobs:
            try:
                self._refuse(job.layout, crew)
            except ValueError as error:
                raise Refusal(f"{name}, {job.task.name}: {error}") from error
        self.tasks = tuple(job.task for job in self._jobs)
        self.rules = Rules(
            **crew._asdict(),
            sensor_range=config.sensor_range,
            reward=REWARDS.index(config.reward),
            max_steps=config.episode_steps,
            max_inactivity_steps=config.max_inactivity_steps,
        )
        self.spec = spec_of(self.rules)
        said = {**crew._asdict(), "sensor_range": config.sensor_range, "reward": config.reward}
        if config.max_inactivity_steps:
            said["max_inactivity_steps"] = config.max_inactivity_steps
        self.made_by = {"rules": "rware 2.0", **{key: str(value) for key, value in said.items()}}

    def make(self, n_rows: int, device: torch.device, generator: torch.Generator) -> WarehouseBatch:
        from envs.rware.batch import WarehouseBatch  # not above: it brings the compiler, which takes seconds

        return WarehouseBatch(self.spec, self._plan(), self.rules, n_rows, generator)

    def _plan(self) -> Plan:
        layouts = list(dict.fromkeys(job.layout for job in self._jobs))
        each = [layouts.index(job.layout) for job in self._jobs]
        colours = [job.colours or (0,) * self.rules.n_agents for job in self._jobs]
        return plan_of(layouts, each, colours, margin=max(1, self.rules.sensor_range))

    def _refuse(self, layout: Layout, crew: Crew) -> None:
        """Raises ValueError where there is no place for all agents, or no shelf left to request."""
        layout.refuse(crew.n_agents, crew.n_requests)

    @abstractmethod
    def _crew(self) -> Crew: ...

    @abstractmethod
    def _draw(self, generator: np.random.Generator) -> tuple[Job, ...]: ...


@dataclass(frozen=True)
class RegisteredConfig(WarehouseConfig):
    registration: str = setting("tiny-4ag", "layout, agents and requests as rware has them: SIZE-Nag, -easy or -hard")

    def __post_init__(self) -> None:
        registered(self.registration)


class Registered(WarehouseFamily):
    """A warehouse as rware registers it, with nothing hidden. One that ``name`` does not say is added to it."""

    config: RegisteredConfig

    def __init__(self, name: str, config: RegisteredConfig, generator: np.random.Generator) -> None:
        is_named = name == f"rware-{config.registration}"
        super().__init__(name if is_named else f"{name} ({config.registration})", config, generator)

    def _crew(self) -> Crew:
        _, n_agents, n_requests = registered(self.config.registration)
        return Crew(n_agents, n_requests)

    def _draw(self, generator: np.random.Generator) -> tuple[Job, ...]:
        layout = registered(self.config.registration).layout
        return (Job(Task(self.config.registration, {"layout": layout.lines}, (1.0,)), layout),)


@dataclass(frozen=True)
class LayoutsConfig(WarehouseConfig):
    n_agents: int = setting(4, "agents", low=1)
    n_requests: int = setting(4, "shelves that are requested at once", low=1)


@dataclass(frozen=True)
class ListedConfig(LayoutsConfig):
    layouts: str = setting(
        "",
        "file of layouts: x shelf, . aisle, g goal, empty lines between them; empty: MG2L's five",
        from_file=lambda name: in_one_line(read_layouts(Path(name))) if name else "",
    )

    def __post_init__(self) -> None:
        try:
            n_layouts = len(self.each)
        except ValueError as error:
            raise Refusal(
                f"layouts={self.layouts}: expected rows of layouts, / between rows, a space between layouts ({error}); "
                "runs of earlier versions name a file instead: put what it holds in its place"
            ) from error
        refuse_many_tasks("layouts", n_layouts, n_layouts)

    @property
    def each(self) -> tuple[Layout, ...]:
        return from_one_line(self.layouts) if self.layouts else read_layouts(PAPERS_LAYOUTS)


class ListedLayouts(WarehouseFamily):
    """A task is one of a few layouts, all of which are seen in training."""

    config: ListedConfig

    def _crew(self) -> Crew:
        return Crew(self.config.n_agents, self.config.n_requests)

    def _draw(self, generator: np.random.Generator) -> tuple[Job, ...]:
        layouts = self.config.each
        return tuple(
            Job(Task(f"layout-{place + 1}", {"layout": layout.lines}, one_hot(place, len(layouts))), layout)
            for place, layout in enumerate(layouts)
        )


def one_hot(place: int, n: int) -> tuple[float, ...]:
    return tuple(float(place == other) for other in range(n))
