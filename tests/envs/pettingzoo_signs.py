"""PettingZoo environments whose agents see images that tell what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

SIDE = 8  # pixels


class Signs(ParallelEnv[str, Any, Any]):
    """An agent is paid for naming the half of its image, left (0) or right (1), that a bright square of 2x2 is in.

    form: "bytes" (8, 8, 1) uint8; "floats" in [0, 1]; "first" with channels first, of two, of which one is empty;
    "sizes": agent 1 sees (4, 6, 1); "beside": within a dict, beside the mask of actions; "seen whole": the state is the
    image of agent 0; "too bright": shows 256, which is no byte.
    """

    max_cycles = 4

    def __init__(self, form: str, n_agents: int) -> None:
        self.metadata = {"name": "signs"}
        self.form = form
        self.possible_agents = [f"reader_{n}" for n in range(n_agents)]
        self.agents: list[str] = []

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        size, dtype = self._size(agent), np.float32 if self.form == "floats" else np.uint8
        shape = (2, *size) if self.form == "first" else (*size, 1)
        box = spaces.Box(0, 1 if self.form == "floats" else 255, shape, dtype)
        return spaces.Dict(observation=box, action_mask=spaces.MultiBinary(2)) if self.form == "beside" else box

    def action_space(self, agent: str) -> spaces.Discrete:
        return spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        self.chance = np.random.default_rng(seed)
        self.agents, self.steps = self.possible_agents[:], 0
        return self._views(), {}

    def step(self, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        acting, self.steps = self.agents, self.steps + 1
        rewards = {agent: float(actions[agent] == self.right[agent]) for agent in acting}
        late = dict.fromkeys(acting, self.steps >= self.max_cycles)
        views = self._views()
        self.agents = [] if late[acting[0]] else acting
        return views, rewards, {}, late, {}

    def state(self) -> Any:
        return self.shown["reader_0"] if self.form == "seen whole" else None

    def _size(self, agent: str) -> tuple[int, int]:
        return (4, 6) if self.form == "sizes" and agent == "reader_1" else (SIDE, SIDE)

    def _views(self) -> dict[str, Any]:
        self.right = {agent: int(self.chance.integers(2)) for agent in self.agents}
        self.shown = {agent: self._drawn(agent) for agent in self.agents}
        if self.form != "beside":
            return self.shown
        return {agent: {"observation": view, "action_mask": np.ones(2)} for agent, view in self.shown.items()}

    def _drawn(self, agent: str) -> NDArray[Any]:
        height, width = self._size(agent)
        top, left = self.chance.integers(height - 1), self.chance.integers(width // 2 - 1)
        left += self.right[agent] * width // 2
        image = np.zeros((height, width), np.uint8)
        image[top : top + 2, left : left + 2] = 255
        if self.form == "floats":
            return (image[..., None] / 255).astype(np.float32)
        if self.form == "first":
            return np.stack([np.zeros_like(image), image])
        return image[..., None] + (np.int64(1) if self.form == "too bright" else np.uint8(0))


def signs(form: str = "bytes", n_agents: int = 2) -> Signs:
    return Signs(form, n_agents)
