"""Any PettingZoo ``ParallelEnv`` as a family, whose tasks are what its factory makes of different keywords."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from envs.core import Refusal, TaskFamily, setting
from envs.extras import require
from envs.pettingzoo.factory import versions
from envs.pettingzoo.keywords import read_tasks

if TYPE_CHECKING:  # it is no dependency of those who play something else
    from envs.pettingzoo.batch import PettingZooBatch
    from envs.pettingzoo.layout import Layout

_FACTORY = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")


@dataclass(frozen=True)
class PettingZooConfig:
    factory: str | None = setting(
        None,
        "module:function that makes a PettingZoo ParallelEnv, such as mpe2.simple_tag_v3:parallel_env",
        is_code=True,
    )
    train: tuple[str, ...] = setting(
        (),
        "a task for each of these keyword sets, such as 'N=2 local_ratio=0.3'; empty: one task, without keywords",
        is_code=True,
    )
    test: tuple[str, ...] = setting((), "keyword sets of held-out tasks", is_code=True)
    ood: tuple[str, ...] = setting((), "keyword sets of held-out tasks outside the range trained on", is_code=True)
    episode_steps: int = setting(0, "time limit of an episode [steps]; 0: the environment's max_cycles", low=0)
    n_workers: int = setting(0, "processes that play the rows of a batch; 0: this one does", low=0, extends=True)
    worker_timeout: float = setting(120.0, "longest time of a step or reset of all rows [s]", above=0, extends=True)

    def __post_init__(self) -> None:
        if self.factory is not None and not _FACTORY.fullmatch(self.factory):
            raise Refusal(f"factory={self.factory}: expected module:function, as in mpe2.simple_tag_v3:parallel_env")
        read_tasks(self.keyword_sets)

    @property
    def keyword_sets(self) -> dict[str, tuple[str, ...]]:
        """By split."""
        return {"train": self.train or ("",), "test": self.test, "ood": self.ood}


class PettingZooFamily(TaskFamily):
    """Tasks are keyword sets; observations are flattened, and padded where agents or tasks differ in their sizes.

    Each task's environment is tried out first: in a process of its own, if processes are to play it. Raises ValueError,
    in one line, where the factory makes nothing that can be played.
    """

    truncates_early = True  # each environment has a limit of its own

    def __init__(self, name: str, config: PettingZooConfig, generator: np.random.Generator) -> None:
        super().__init__(name, config, generator)
        if config.factory is None:
            raise Refusal("env.factory=module:function is needed, which makes a PettingZoo ParallelEnv")
        self.factory, self._config = config.factory, config
        self.tasks = read_tasks(config.keyword_sets)
        require("pettingzoo")
        layouts, versions = self._tried()
        layouts = [layout.ordered(layouts[0].agents) for layout in layouts]
        for task, layout in zip(self.tasks, layouts, strict=True):
            if layout.traits != layouts[0].traits:
                raise Refusal(
                    f"{self.factory}: all tasks need the same agents and kind of actions; {self.tasks[0].name!r} has "
                    f"{layouts[0].traits}, {task.name!r} has {layout.traits}"
                )
        self.made_by = {"factory": self.factory, **versions}
        self._seat(layouts)

    def ordered(self, agents: Sequence[str]) -> PettingZooFamily:
        family = copy(self)
        family._seat([layout.ordered(agents) for layout in self._layouts])
        return family

    def drawn(self) -> PettingZooFamily:
        family = copy(self)
        family._maker = self._maker.drawn()
        return family

    def make(self, n_rows: int, device: torch.device, generator: torch.Generator) -> PettingZooBatch:
        return self._maker.make(n_rows, generator)

    def _tried(self) -> tuple[list[Layout], dict[str, str]]:
        """The layout of each task's environment, and the versions of all that makes them."""
        config = self._config
        if config.n_workers:
            from envs.pettingzoo.workers import try_in_worker

            return try_in_worker(self.factory, self.tasks, config.worker_timeout)
        from envs.pettingzoo.trial import try_out

        return [try_out(self.factory, task) for task in self.tasks], versions(self.factory)

    def _seat(self, layouts: Sequence[Layout]) -> None:
        """Take the agents in the order of these layouts."""
        from envs.pettingzoo.batch import BatchMaker
        from envs.pettingzoo.layout import spec_of
        from envs.pettingzoo.rows import Game

        config = self._config
        self._layouts, self.agents = layouts, layouts[0].agents
        self.spec = spec_of(layouts, config.episode_steps or self._own_limit(layouts))
        game = Game(self.name, self.factory, self.tasks, tuple(layouts), self.spec)
        self._maker = BatchMaker(game, n_workers=config.n_workers, timeout=config.worker_timeout)

    def _own_limit(self, layouts: Sequence[Layout]) -> int:
        limits = [layout.max_cycles for layout in layouts]
        if 0 in limits:
            raise Refusal(
                f"{self.factory}: the environment states no max_cycles: env.episode_steps=... has to say how long an "
                "episode may last"
            )
        return max(limits)
