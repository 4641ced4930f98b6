"""Between the spaces of a PettingZoo environment and flat arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

Env: TypeAlias = ParallelEnv[Any, Any, Any]
Space: TypeAlias = spaces.Space[Any]
Array: TypeAlias = NDArray[Any]

FLAT = (spaces.Box, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete)  # and Dict and Tuple of these


class Seat(NamedTuple):
    """What one agent sees and does."""

    agent: Any  # its name in the environment
    obs_space: Space  # without the mask of actions
    obs_size: int
    action_space: spaces.Discrete | spaces.Box
    action_size: int  # continuous: width of the vector; discrete: number of actions
    is_obs_masked: bool  # observations are {"observation": ..., "action_mask": ...}

    def observe(self, obs: Any) -> Array:
        """An observation as a vector (obs_size,)."""
        seen = obs["observation"] if self.is_obs_masked else obs
        flat = seen if isinstance(self.obs_space, spaces.Box) else spaces.flatten(self.obs_space, seen)
        vector = np.asarray(flat, dtype=np.float32).ravel()
        if vector.size != self.obs_size:
            raise ValueError(f"{self.agent} observed {vector.size} numbers, where its space is {self.obs_space}")
        return vector

    def legal(self, obs: Any, info: Mapping[str, Any], *, must_act: bool = True) -> Array | bool:
        """Which actions are legal (action_size,); True: all. ValueError if none is and it must act."""
        mask = obs["action_mask"] if self.is_obs_masked else info.get("action_mask")
        if mask is None:
            return True
        legal = np.asarray(mask, dtype=bool)
        if must_act and not legal.any():
            raise ValueError(f"the action mask of {self.agent} allows nothing")
        return legal

    def action(self, given: Array) -> Any:
        """What the environment is told: a number, or a vector (n,) in [-1, 1], n >= action_size, on the box's scale."""
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return int(given) + int(space.start)
        share = (np.clip(given[: self.action_size], -1, 1) + 1) / 2
        return np.clip(space.low + share * (space.high - space.low), space.low, space.high).astype(space.dtype)


class Layout(NamedTuple):
    """One task's environment, as arrays."""

    seats: tuple[Seat, ...]  # in the order of ``possible_agents``
    state_size: int  # of its ``state()``; 0: it has none that works
    max_cycles: int  # its own time limit [steps]; 0: it does not say

    @property
    def is_discrete(self) -> bool:
        return isinstance(self.seats[0].action_space, spaces.Discrete)

    @property
    def obs_sizes(self) -> tuple[int, ...]:
        return tuple(seat.obs_size for seat in self.seats)

    @property
    def action_sizes(self) -> tuple[int, ...]:
        return tuple(seat.action_size for seat in self.seats)

    @property
    def traits(self) -> str:
        """What must be the same in all tasks of a family, in words."""
        agents = ", ".join(str(seat.agent) for seat in self.seats)
        actions = "discrete" if self.is_discrete else "continuous"
        return f"{agents}, {actions} actions, {'a' if self.state_size else 'no'} state()"


def layout_of(env: Env) -> Layout:
    """Read the layout off an environment, which is reset for it. Raises ValueError naming agent and space."""
    seats = tuple(_seat(env, agent) for agent in env.possible_agents)
    if len({type(seat.action_space) for seat in seats}) != 1:
        acts = ", ".join(f"{seat.agent}: {seat.action_space}" for seat in seats) or "none, for there are no agents"
        raise ValueError(f"actions must be all Discrete or all Box; they are {acts}")
    env.reset(seed=0)
    return Layout(seats, _state_size(env), int(getattr(env.unwrapped, "max_cycles", None) or 0))


def _state_size(env: Env) -> int:
    try:
        return np.asarray(env.state(), dtype=np.float32).size
    except Exception:  # there are many ways not to have one
        return 0


def _seat(env: Env, agent: Any) -> Seat:
    obs_space, action_space = env.observation_space(agent), env.action_space(agent)
    is_masked = isinstance(obs_space, spaces.Dict) and set(obs_space) == {"observation", "action_mask"}
    if is_masked:
        obs_space = obs_space["observation"]
    if not _is_flat(obs_space) or spaces.flatdim(obs_space) == 0:
        raise ValueError(
            f"{agent} observes {obs_space}; supported are Box, Discrete, MultiBinary, MultiDiscrete, and Dict and "
            "Tuple of these"
        )
    if not _is_supported_action(action_space):
        raise ValueError(
            f"{agent} acts in {action_space}; supported are Discrete, and Box of floats with one axis and finite bounds"
        )
    action_size = int(action_space.n) if isinstance(action_space, spaces.Discrete) else action_space.shape[0]
    return Seat(agent, obs_space, spaces.flatdim(obs_space), action_space, action_size, is_masked)


def _is_flat(space: Space) -> bool:
    if isinstance(space, spaces.Dict):
        return all(map(_is_flat, space.values()))
    if isinstance(space, spaces.Tuple):
        return all(map(_is_flat, space))
    return isinstance(space, FLAT)


def _is_supported_action(space: Space) -> bool:
    if isinstance(space, spaces.Box):
        has_bounds = bool(np.isfinite(space.low).all() and np.isfinite(space.high).all())
        return has_bounds and len(space.shape) == 1 and space.shape[0] > 0 and np.issubdtype(space.dtype, np.floating)
    return isinstance(space, spaces.Discrete)
