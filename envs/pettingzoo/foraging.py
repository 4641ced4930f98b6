"""Level-based foraging (Papoudakis et al. 2021) as a ParallelEnv: an example of a factory for something that is none.

``train.py --env=pettingzoo env.factory=envs.pettingzoo.foraging:parallel_env``, which needs ``pip install lbforaging``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lbforaging.foraging import ForagingEnv
from lbforaging.foraging.environment import Player
from pettingzoo import ParallelEnv

SIMULATORS = ("lbforaging",)  # packages whose versions are part of what the tasks are


def parallel_env(
    n_agents: int = 2,
    n_foods: int = 2,
    size: int = 8,  # of the square field [cells]
    *,
    max_level: int = 2,  # of agents; food takes as much as the three lowest of them have together
    must_cooperate: bool = False,
    max_cycles: int = 50,
) -> Foraging:
    """A game in which agents of random levels load food, alone or together; everyone sees the whole field."""
    game = ForagingEnv(
        players=n_agents,
        min_player_level=1,
        max_player_level=max_level,
        min_food_level=1,
        max_food_level=None,
        field_size=(size, size),
        max_num_food=n_foods,
        sight=size,
        max_episode_steps=max_cycles,
        force_coop=must_cooperate,
    )
    return Foraging(game, max_cycles)


class NumberedPlayer(Player):
    """The game pops its players off a set: hashed by their numbers, they come in an order that a seed decides."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def __hash__(self) -> int:
        return self.number


class Foraging(ParallelEnv[str, Any, int]):
    """lbforaging gives tuples where a ParallelEnv gives dicts, and calls its time limit an end."""

    def __init__(self, game: ForagingEnv, max_cycles: int) -> None:
        self.game, self.max_cycles = game, max_cycles
        self.metadata = {"name": "level_based_foraging"}
        self.possible_agents = [f"agent_{n}" for n in range(game.n_agents)]
        self.agents: list[str] = []
        self.observation_spaces = self._named(game.observation_space)
        self.action_spaces = self._named(game.action_space)

    def observation_space(self, agent: str) -> Any:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        self.agents = self.possible_agents[:]
        # New ones, since players of the episode before would keep others from where they stood.
        self.game.players = [NumberedPlayer(n) for n in range(self.game.n_agents)]
        obs, _ = self.game.reset(seed=seed)
        return self._named(obs), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, int]) -> tuple[Any, Any, Any, Any, Any]:
        obs, rewards, is_over, _, _ = self.game.step([actions[agent] for agent in self.agents])
        is_eaten = not self.game.field.any()
        ends, stops = ({agent: bool(flag) for agent in self.agents} for flag in (is_eaten, is_over and not is_eaten))
        self.agents = [] if is_over else self.agents
        return self._named(obs), self._named(rewards), ends, stops, {agent: {} for agent in self.possible_agents}

    def _named(self, values: Iterable[Any]) -> dict[str, Any]:
        return dict(zip(self.possible_agents, values, strict=True))
