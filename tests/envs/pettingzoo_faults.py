"""PettingZoo environments that do not answer as they should, or not at all."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from envs.core import Interruption
from tests.envs.pettingzoo_envs import BOX, Spaces, Walk

Twist = Callable[["Fails", list[Any]], Any]  # of what a step answers, which it may change

OBS, REWARDS, TERMINATIONS, INFOS = 0, 1, 2, 4  # places in it


class Fails(Walk):
    """Agents walker_0 and seer_0, whose environment goes wrong from a certain step of an episode on, in one way."""

    def __init__(self, how: str, step: int) -> None:
        super().__init__(0.0, 2, max_cycles=8)
        self.twist, self.fatal_step, self.state_size = TWISTS[how], step, 2

    def step(self, actions: dict[str, Any]) -> Any:
        answer = list(super().step(actions))
        return self.twist(self, answer) if self.steps >= self.fatal_step else tuple(answer)

    def state(self) -> Any:
        return np.ones(self.state_size, np.float32)


def fails(how: str = "raise", step: int = 5) -> Fails:
    return Fails(how, step)


def _given(part: int, agent: str, value: Any) -> Twist:
    """That agent is given this value."""
    return lambda env, answer: [*answer[:part], {**answer[part], agent: value}, *answer[part + 1 :]]


def _raised(error: BaseException) -> Twist:
    def twist(env: Fails, answer: list[Any]) -> Any:
        raise error

    return twist


def _stranger(env: Fails, answer: list[Any]) -> list[Any]:
    env.agents = [*env.agents, "stranger"]
    return answer


def _short_state(env: Fails, answer: list[Any]) -> list[Any]:
    env.state_size = 1
    return answer


def _without(part: int) -> Twist:
    return lambda env, answer: [*answer[:part], {}, *answer[part + 1 :]]


TWISTS: dict[str, Twist] = {
    "exit": lambda env, answer: os._exit(3),
    "sleep": lambda env, answer: time.sleep(1000),
    "sys.exit": lambda env, answer: sys.exit(0),
    "raise": _raised(RuntimeError("the walls\ncame down")),
    "raise signs": _raised(RuntimeError("\x1b[2Jall is well")),
    "interrupt": _raised(KeyboardInterrupt()),
    "be interrupted": lambda env, answer: os.kill(os.getpid(), signal.SIGINT),
    "be told to stop": _raised(Interruption()),
    "no infos": lambda env, answer: answer[:INFOS],
    "None as answer": lambda env, answer: None,
    "None as infos": lambda env, answer: [*answer[:INFOS], None],
    "a number as info": _given(INFOS, "walker_0", 1),
    "no observation": _without(OBS),
    "None as observation": _given(OBS, "seer_0", None),
    "narrow observation": _given(OBS, "seer_0", np.zeros(1, np.float32)),
    "wide observation": _given(OBS, "seer_0", np.zeros(9, np.float32)),
    "text as observation": _given(OBS, "seer_0", "all quiet"),
    "no reward": _without(REWARDS),
    "None as reward": _given(REWARDS, "walker_0", None),
    "two rewards": _given(REWARDS, "walker_0", np.ones(2)),
    "text as reward": _given(REWARDS, "walker_0", "1.0"),
    "None as termination": _given(TERMINATIONS, "walker_0", None),
    "short mask": _given(INFOS, "walker_0", {"action_mask": np.ones(1, np.int8)}),
    "text as mask": _given(INFOS, "walker_0", {"action_mask": "all"}),
    "stranger": _stranger,
    "short state": _short_state,
}


class Listing(Walk):
    """walker_0 ends in its second step, unless ``flag`` is "", and is listed from then on as ``listed`` says."""

    def __init__(self, flag: str, listed: tuple[bool, ...]) -> None:
        super().__init__(0.0, 2, max_cycles=6)
        self.flag, self.listed = flag, listed

    def step(self, actions: dict[str, Any]) -> Any:
        obs, rewards, ends, late, infos = super().step(actions)
        if self.steps >= 2:
            {"terminated": ends, "truncated": late, "": {}}[self.flag]["walker_0"] = self.steps == 2
            is_listed = self.steps - 2 < len(self.listed) and self.listed[self.steps - 2]
            others = [agent for agent in self.agents if agent != "walker_0"]
            self.agents = ["walker_0", *others] if is_listed else others
            obs, rewards = self._views(self.possible_agents, {}), dict.fromkeys(self.possible_agents, 1.0)
        return obs, rewards, ends, late, infos


def listing(flag: str = "terminated", listed: tuple[bool, ...] = ()) -> Listing:
    return Listing(flag, listed)


class Starts(Walk):
    """It starts in one of the ways that are none of PettingZoo's, or are seldom met."""

    def __init__(self, how: str) -> None:
        super().__init__(0.0, 2)
        self.how, self.is_started = how, False

    def observation_space(self, agent: str) -> Any:
        if self.how == "spaces known late" and not self.is_started:
            raise RuntimeError("there are no spaces yet")
        space = super().observation_space(agent)
        masked = spaces.Dict({"seen": space, "action_mask": spaces.MultiBinary(3)})
        return {"foreign space": ForeignBox(), "no mask": masked}.get(self.how, space)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        obs, infos = super().reset(seed)
        self.is_started = True
        if self.how == "no agents":
            self.agents = []
        if self.how == "no mask":
            obs = {agent: {"seen": seen} for agent, seen in obs.items()}
        return {"old reset": obs, "no infos": (obs, None), "no agent sees": ({}, infos)}.get(self.how, (obs, infos))

    def state(self) -> Any:
        if self.how == "text as state":
            return "all quiet"
        raise NotImplementedError


class ForeignBox:
    """Of another library."""


def starts(how: str) -> Starts:
    return Starts(how)


class Stated(Spaces):
    """Its state is a dict, which its ``state_space`` tells how to read."""

    def __init__(self) -> None:
        super().__init__(BOX, spaces.Discrete(2))
        self.state_space = spaces.Dict({"sum": BOX, "turn": spaces.Discrete(2)})
        self.max_cycles = 4

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.turn = 0
        return {"it": np.zeros(2, np.float32)}, {}

    def step(self, actions: dict[str, Any]) -> Any:
        self.turn += 1
        return {"it": np.zeros(2, np.float32)}, {"it": 0.0}, {}, {}, {}

    def state(self) -> Any:
        return {"turn": self.turn % 2, "sum": np.full(2, self.turn, np.float32)}


def stated() -> Stated:
    return Stated()


class HangsOnClose(Walk):
    def close(self) -> None:
        time.sleep(1000)


def hangs_on_close() -> HangsOnClose:
    return HangsOnClose(0.0, 2)
