"""Any PettingZoo ``ParallelEnv`` as a family, whose tasks are what its factory makes of different keywords."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from envs.core import EnvSpec, Task, TaskFamily, setting
from envs.pettingzoo.factory import in_one_line, make_env, versions
from envs.pettingzoo.keywords import read_tasks

if TYPE_CHECKING:  # it is no dependency of those who play something else
    from envs.pettingzoo.batch import PettingZooBatch
    from envs.pettingzoo.layout import Layout

_FACTORY = re.compile(r"\w+(\.\w+)*:\w+")
_NUMBER = re.compile(r"_?\d+$")


@dataclass(frozen=True)
class PettingZooConfig:
    factory: str | None = setting(
        None,
        "module:function that makes a PettingZoo ParallelEnv, such as mpe2.simple_tag_v3:parallel_env",
        is_code=True,
    )
    train: tuple[str, ...] = setting(
        (), "a task for each of these keyword sets, such as 'N=2 local_ratio=0.3'; empty: one task, without keywords"
    )
    test: tuple[str, ...] = setting((), "keyword sets of held-out tasks")
    ood: tuple[str, ...] = setting((), "keyword sets of held-out tasks outside the range trained on")
    episode_steps: int = setting(0, "time limit of an episode [steps]; 0: the environment's max_cycles", low=0)
    n_workers: int = setting(0, "processes that play the rows of a batch; 0: this one does", low=0, extends=True)
    worker_timeout: float = setting(120.0, "longest time of a step or reset of all rows [s]", above=0, extends=True)

    def __post_init__(self) -> None:
        if self.factory is not None and not _FACTORY.fullmatch(self.factory):
            raise ValueError(f"factory={self.factory}: expected module:function, as in mpe2.simple_tag_v3:parallel_env")
        read_tasks(self.keyword_sets)

    @property
    def keyword_sets(self) -> dict[str, tuple[str, ...]]:
        """By split."""
        return {"train": self.train or ("",), "test": self.test, "ood": self.ood}


class PettingZooFamily(TaskFamily):
    """Tasks are keyword sets; observations are flattened, and padded where agents or tasks differ in their sizes.

    Raises ValueError, in one line, where the factory makes nothing that can be played.
    """

    truncates_early = True  # each environment has a limit of its own

    def __init__(self, name: str, config: PettingZooConfig, generator: np.random.Generator) -> None:
        super().__init__(name, config, generator)
        if config.factory is None:
            raise ValueError("env.factory=module:function is needed, which makes a PettingZoo ParallelEnv")
        self.factory = config.factory
        self.tasks = read_tasks(config.keyword_sets)
        layouts = [self._layout(task) for task in self.tasks]
        for task, layout in zip(self.tasks, layouts, strict=True):
            if layout.traits != layouts[0].traits:
                raise ValueError(
                    f"{self.factory}: all tasks need the same agents and kind of actions; {self.tasks[0].name!r} has "
                    f"{layouts[0].traits}, {task.name!r} has {layout.traits}"
                )
        self.spec = _spec(layouts, config.episode_steps or self._own_limit(layouts))
        self.made_by = {"factory": self.factory, **versions(self.factory)}
        from envs.pettingzoo.batch import BatchMaker
        from envs.pettingzoo.rows import Game

        game = Game(name, self.factory, self.tasks, tuple(layouts), self.spec)
        self._maker = BatchMaker(game, n_workers=config.n_workers, timeout=config.worker_timeout)

    def make(self, n_rows: int, device: torch.device, generator: torch.Generator) -> PettingZooBatch:
        return self._maker.make(n_rows, generator)

    def _layout(self, task: Task) -> Layout:
        env = make_env(self.factory, task.params)
        from envs.pettingzoo.layout import layout_of  # not before make_env has said whether PettingZoo is there

        try:
            return layout_of(env)
        except Exception as error:
            raise ValueError(f"{self.factory}, task {task.name!r}: {in_one_line(error)}") from error
        finally:
            with suppress(Exception):  # what it raises then is of no interest any more
                env.close()

    def _own_limit(self, layouts: Sequence[Layout]) -> int:
        limits = [layout.max_cycles for layout in layouts]
        if 0 in limits:
            raise ValueError(
                f"{self.factory}: the environment states no max_cycles: env.episode_steps=... has to say how long an "
                "episode may last"
            )
        return max(limits)


def _spec(layouts: Sequence[Layout], episode_steps: int) -> EnvSpec:
    """Sizes are the largest of all tasks."""
    first = layouts[0]
    obs_sizes = tuple(max(sizes) for sizes in zip(*(layout.obs_sizes for layout in layouts), strict=True))
    action_sizes = tuple(max(sizes) for sizes in zip(*(layout.action_sizes for layout in layouts), strict=True))
    types = [_NUMBER.sub("", str(seat.agent)) for seat in first.seats]
    obs_dim = max(obs_sizes)
    return EnvSpec(
        n_agents=len(types),
        obs_dim=obs_dim,
        state_dim=max(layout.state_size for layout in layouts) or len(types) * obs_dim,
        action_dim=max(action_sizes),
        is_discrete=first.is_discrete,
        episode_steps=episode_steps,
        obs_sizes=obs_sizes,
        action_sizes=action_sizes,
        agent_types=tuple(types.index(kind) for kind in types),
    )
