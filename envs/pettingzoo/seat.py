"""What one agent of a PettingZoo environment sees and does, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from envs.pettingzoo.answers import Array, Space, as_numbers, flatten, in_words
from envs.pettingzoo.factory import Complaint
from envs.pettingzoo.images import Form, form_of

MASK = "action_mask"  # PettingZoo's name for it, in observations and infos
FLAT = (spaces.Box, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete)  # and Dict and Tuple of these
NO_BOUND = 1e15  # bounds beyond it stand for none, as float32's largest number does; they make NaN of actions


class Seat(NamedTuple):
    """What one agent sees and does."""

    agent: Any  # its name in the environment
    obs_space: Space  # without the mask of actions
    obs_size: int
    action_space: spaces.Discrete | spaces.Box
    action_size: int  # continuous: width of the vector; discrete: number of actions
    is_obs_masked: bool  # observations are dicts in which "action_mask" stands beside the rest

    def observe(self, obs: Any) -> Array:
        """An observation as a vector (obs_size,)."""
        return flatten(self.obs_space, obs, f"{self.agent} observed")

    @property
    def form(self) -> Form | None:
        """Of the image that it sees, beside nothing but a mask of actions; None: it sees something else."""
        space = self.obs_space
        if isinstance(space, spaces.Dict) and len(space) == 1:
            (space,) = space.values()
        return form_of(space.shape, space.dtype) if isinstance(space, spaces.Box) else None

    def image(self, obs: Any, form: Form) -> Array:
        """An observation of this form as an image (height, width, channels)."""
        return form.read(self.observe(obs), f"{self.agent} observed")

    def legal(self, obs: Any, info: Mapping[str, Any], *, must_act: bool = True) -> Array | bool:
        """Which actions are legal (action_size,); True: all. Complaint if none is and it must act."""
        mask = obs.get(MASK) if self.is_obs_masked else info.get(MASK)
        if mask is None and self.is_obs_masked:
            raise Complaint(f"{self.agent} observed no {MASK}, which its space has")
        if mask is None:
            return True
        legal = as_numbers(mask)
        if legal is None:
            raise Complaint(f"the action mask of {self.agent} is {in_words(mask)}: it must be an array")
        if legal.size != self.action_size:
            entries = "1 entry" if legal.size == 1 else f"{legal.size} entries"
            raise Complaint(f"the action mask of {self.agent} has {entries}, {self.action_size} actions")
        if must_act and not legal.any():
            raise Complaint(f"the action mask of {self.agent} allows nothing")
        return legal != 0

    def action(self, given: Array) -> Any:
        """What the environment is told: a number, or a vector (n,) in [-1, 1], n >= action_size, on the box's scale."""
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return int(given) + int(space.start)
        share = (np.clip(given[: self.action_size], -1, 1) + 1) / 2
        return np.clip(space.low + share * (space.high - space.low), space.low, space.high).astype(space.dtype)


def seat_of(env: ParallelEnv[Any, Any, Any], agent: Any) -> Seat:
    """Of an agent of an environment. Raises Complaint naming agent and space."""
    obs_space, action_space = env.observation_space(agent), env.action_space(agent)
    for does, space in (("observes", obs_space), ("acts in", action_space)):
        if not isinstance(space, spaces.Space):
            kind = f"{type(space).__module__}.{type(space).__qualname__}"
            raise Complaint(f"{agent} {does} a {kind}, which is none of gymnasium.spaces: import gymnasium.spaces")
    if not _is_supported_action(action_space):
        raise Complaint(
            f"{agent} acts in {action_space}; supported are Discrete, and Box of floats with one axis and bounds "
            f"below {NO_BOUND:g}"
        )
    action_size = int(action_space.n) if isinstance(action_space, spaces.Discrete) else action_space.shape[0]
    is_masked = isinstance(obs_space, spaces.Dict) and MASK in obs_space.spaces
    if is_masked:
        _check_mask(agent, obs_space[MASK], action_space)
        obs_space = spaces.Dict({key: part for key, part in obs_space.items() if key != MASK})
    if not is_flat(obs_space) or spaces.flatdim(obs_space) == 0:
        raise Complaint(
            f"{agent} observes {obs_space}; supported are Box, Discrete, MultiBinary, MultiDiscrete, and Dict and "
            "Tuple of these"
        )
    if _has_mask(obs_space):
        raise Complaint(f"{agent} observes {obs_space}: an {MASK} must stand beside the rest, not within a part of it")
    return Seat(agent, obs_space, spaces.flatdim(obs_space), action_space, action_size, is_masked)


def is_flat(space: Space) -> bool:
    """Whether its values are rows of numbers of one length."""
    return all(isinstance(part, FLAT) or (part is not space and is_flat(part)) for part in _parts(space))


def _parts(space: Space) -> tuple[Space, ...]:
    """Of a Dict or Tuple; of another space, itself."""
    if isinstance(space, spaces.Dict):
        return tuple(space.values())
    return tuple(space) if isinstance(space, spaces.Tuple) else (space,)


def _has_mask(space: Space) -> bool:
    is_here = isinstance(space, spaces.Dict) and MASK in space.spaces
    return is_here or any(part is not space and _has_mask(part) for part in _parts(space))


def _check_mask(agent: Any, mask: Space, action_space: Space) -> None:
    if not isinstance(action_space, spaces.Discrete):
        raise Complaint(f"{agent} observes an {MASK}, and acts in {action_space}: only Discrete actions have masks")
    if not isinstance(mask, FLAT) or int(np.prod(mask.shape or ())) != action_space.n:
        raise Complaint(f"{agent} observes an {MASK} of {mask}: it must have {action_space.n} entries, one per action")


def _is_supported_action(space: Space) -> bool:
    if not isinstance(space, spaces.Box):
        return isinstance(space, spaces.Discrete)
    if len(space.shape) != 1 or space.shape[0] == 0 or not np.issubdtype(space.dtype, np.floating):
        return False
    with np.errstate(over="ignore"):
        width = space.high - space.low  # in its dtype: the bounds of a narrow one may be too far apart
    return bool(np.isfinite(width).all() and (np.abs([space.low, space.high]) < NO_BOUND).all())
