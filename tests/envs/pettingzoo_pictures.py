"""PettingZoo environments that draw themselves, or fail to; and games in which little or nothing is drawn by lot."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.envs.pettingzoo_envs import Walk

MADE: list[str | None] = []  # the render modes of the environments made
LOOKS: dict[str, Any] = {
    "picture": lambda: np.zeros((6, 8, 3), np.uint8),
    "floats": lambda: np.zeros((6, 8, 3)),
    "nothing": lambda: None,
    "text": lambda: "|..x|",
    "raise": lambda: [][0],
}


class Painted(Walk):
    """Its picture's colour is the number of steps made."""

    def __init__(self, look: str, render_mode: str | None) -> None:
        super().__init__(0.0, 2)
        self.look, self.render_mode = LOOKS[look], render_mode
        self.canvas: Any = None
        MADE.append(render_mode)

    def render(self) -> Any:
        assert self.render_mode == "rgb_array", "nobody asked for pictures when it was made"
        self.canvas = self.look() if self.canvas is None else self.canvas
        if isinstance(self.canvas, np.ndarray):
            self.canvas[:] = 40 * self.steps  # the same array again
        return self.canvas


def painted(look: str = "picture", render_mode: str | None = None) -> Painted:
    return Painted(look, render_mode)


def strict(**keywords: Any) -> Walk:
    """Its signature takes what it refuses."""
    if "render_mode" in keywords:
        raise TypeError("no paint here")
    return Walk(0.0, 2)


class SameStart(Walk):
    """Agents start in one place, and are pushed about by chance."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        super().reset(seed)
        self.at = dict.fromkeys(self.agents, 0.0)
        return self._views(self.agents, {}), self._infos(self.agents)


class Clockwork(Walk):
    """Nothing is left to chance."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        return super().reset(0)


def same_start() -> SameStart:
    return SameStart(0.0, 2)


def clockwork() -> Clockwork:
    return Clockwork(0.0, 2)
