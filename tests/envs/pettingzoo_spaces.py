"""PettingZoo environments whose agents see, do or are paid what is not supported."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from tests.envs.pettingzoo_envs import BOX, Spaces, Walk

TWO = spaces.Discrete(2)
KINDS: dict[str, spaces.Space[Any]] = {
    "Text": spaces.Text(3),
    "Graph": spaces.Graph(BOX, TWO),
    "Sequence": spaces.Sequence(BOX),
    "OneOf": spaces.OneOf((BOX, TWO)),
    "Tuple": spaces.Tuple((TWO, spaces.Text(3))),
    "Dict": spaces.Dict({"observation": spaces.Text(3), "action_mask": spaces.MultiBinary(2)}),
    "MultiBinary": spaces.MultiBinary(2),
    "MultiDiscrete": spaces.MultiDiscrete([2, 2]),
    "image": spaces.Box(0, 1, (4, 4, 3)),
}


def sees(kind: str) -> Spaces:
    return Spaces(KINDS[kind], TWO)


def acts(kind: str) -> Spaces:
    return Spaces(BOX, KINDS[kind])


class Paid(Walk):
    """Rewards are vectors, as of several objectives."""

    def step(self, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        obs, rewards, *others = super().step(actions)
        vectors = {agent: np.full(2, reward) for agent, reward in rewards.items()}
        return (obs, vectors, *others)


def paid() -> Paid:
    return Paid(0.0, 2)
