"""``smax-MAP``: a battle against jaxmarl's scripted enemies; ``smax-enemies``: against enemies of hidden behaviour."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from envs.core import EnvSpec, Refusal, Task, TaskFamily, setting
from envs.extras import require
from envs.smax.maps import MAPS, UNITS, Map

if TYPE_CHECKING:
    from envs.smax.batch import BattleBatch

TARGETS = ("closest", "random", "weakest")  # whom an enemy shoots at, until that is dead or out of its range
MOVES = ("chase", "hold")  # what an enemy does that can shoot at nobody


@dataclass(frozen=True)
class BattleConfig:
    map: str = setting("3m", "map of jaxmarl, with - in place of _", choices=tuple(MAPS))
    episode_steps: int = setting(100, "time limit of an episode [steps]", low=1)


@dataclass(frozen=True)
class EnemiesConfig:
    maps: tuple[str, ...] = setting(
        ("2s3z", "smacv2-5-units"), "maps of jaxmarl, as many allies and enemies on each", choices=tuple(MAPS)
    )
    episode_steps: int = setting(100, "time limit of an episode [steps]", low=1)

    def __post_init__(self) -> None:
        sizes = {name: MAPS[name][:2] for name in self.maps if name in MAPS}
        if not self.maps or len(set(self.maps)) < len(self.maps):
            raise Refusal(f"maps={list(self.maps)}: expected one map or several, each once")
        if len(set(sizes.values())) > 1:
            each = ", ".join(f"{name} has {allies} v {enemies}" for name, (allies, enemies) in sizes.items())
            raise Refusal(f"maps: expected as many allies and enemies on each; {each}")


class BattleFamily(TaskFamily):
    """Tasks are battles: who fights, and how the enemies behave.

    A team is paid alike, those who died too: for the health that enemies lose, 1 in all for everything, and 1 for
    winning. An episode is won that ends before its time with an ally alive. jaxmarl is needed to play, not to ask.
    """

    def __init__(self, name: str, config: Any, generator: np.random.Generator) -> None:
        super().__init__(name, config, generator)
        self._battles = self._drawn()
        self.tasks = tuple(task for task, _ in self._battles)
        maps = [MAPS[task.params["map"]] for task in self.tasks]
        self.spec = _spec(maps, config.episode_steps)
        self.made_by = {"rules": "jaxmarl 0.2"}

    def make(self, n_rows: int, device: torch.device, generator: torch.Generator) -> BattleBatch:
        require("jaxmarl")
        from envs.smax.batch import BattleBatch  # not above: it brings JAX, which takes seconds

        return BattleBatch(self.spec, tuple(battle for _, battle in self._battles), n_rows, generator)

    @abstractmethod
    def _drawn(self) -> tuple[tuple[Task, tuple[str, int, int]], ...]:
        """Tasks, and of each the map's registered name and the numbers of its enemies' targets and moves."""


class Battle(BattleFamily):
    """One map, with nothing hidden: enemies shoot at the closest, and chase. A map not in ``name`` is added to it."""

    def __init__(self, name: str, config: BattleConfig, generator: np.random.Generator) -> None:
        self._map = config.map
        super().__init__(name if name == f"smax-{config.map}" else f"{name} ({config.map})", config, generator)

    def _drawn(self) -> tuple[tuple[Task, tuple[str, int, int]], ...]:
        return ((Task(self._map, {"map": self._map}, (1.0,)), (MAPS[self._map].registered, 0, 0)),)


class Enemies(BattleFamily):
    """A task is a map, whom enemies shoot at, and whether they chase or hold their ground. Maps can be seen, the rest
    not. Enemies that shoot at the weakest and hold, on each map, are held out: both halves are met in training.
    """

    random_play_tells: ClassVar[bool] = False  # whom enemies shoot at shows only where several are in their range

    def __init__(self, name: str, config: EnemiesConfig, generator: np.random.Generator) -> None:
        self._maps = config.maps
        super().__init__(name, config, generator)

    def _drawn(self) -> tuple[tuple[Task, tuple[str, int, int]], ...]:
        drawn = []
        for place, name in enumerate(self._maps):
            for t, target in enumerate(TARGETS):
                for m, move in enumerate(MOVES):
                    params = {"map": name, "target": target, "move": move}
                    features = [float(place == other) for other in range(len(self._maps))]
                    features += [float(t == other) for other in range(len(TARGETS))] + [float(m)]
                    split = "test" if (target, move) == ("weakest", "hold") else "train"
                    task = Task(f"{name}-{target}-{move}", params, tuple(features), split)
                    drawn.append((task, (MAPS[name].registered, t, m)))
        return tuple(sorted(drawn, key=lambda each: each[0].split != "train"))  # to train on first


def _spec(maps: list[Map], episode_steps: int) -> EnvSpec:
    """Of maps of one size. Agents have types that are the same in all episodes of all tasks, or else are drawn."""
    first, types = maps[0], {one.ally_types for one in maps}
    ally_types = first.ally_types if len(types) == 1 else None
    numbered = sorted(set(ally_types or ()))
    return EnvSpec(
        n_agents=first.n_allies,
        obs_dim=first.obs_dim,
        state_dim=first.state_dim,
        action_dim=first.n_actions,
        is_discrete=True,
        episode_steps=episode_steps,
        agent_types=tuple(numbered.index(kind) for kind in ally_types) if ally_types and len(numbered) > 1 else (),
        type_columns=tuple(range(first.obs_dim - len(UNITS), first.obs_dim)) if ally_types is None else (),
        shared_reward=True,
        can_be_won=True,
    )
