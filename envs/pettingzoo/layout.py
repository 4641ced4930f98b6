"""Between a PettingZoo environment and flat arrays: its agents' seats, and its state."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from envs.core import EnvSpec, one_line
from envs.pettingzoo.answers import OF_RESET, Array, Space, as_numbers, flatten, in_words, parts
from envs.pettingzoo.factory import Complaint
from envs.pettingzoo.images import Form, common, form_of
from envs.pettingzoo.seat import Seat, is_flat, seat_of

Env: TypeAlias = ParallelEnv[Any, Any, Any]

_NUMBER = re.compile(r"_?\d+$")


class Layout(NamedTuple):
    """One task's environment, as arrays."""

    seats: tuple[Seat, ...]  # in the order of ``possible_agents``, unless another was asked for
    state_size: int  # of its ``state()``; 0: it has none that works
    max_cycles: int  # its own time limit [steps]; 0: it does not say
    state_space: Space | None = None  # of a ``state()`` that is a dict or a tuple
    state_form: Form | None = None  # of a ``state()`` that is an image

    @property
    def agents(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(one_line(seat.agent) for seat in self.seats)

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
        actions = "discrete" if self.is_discrete else "continuous"
        return f"{', '.join(self.agents)}, {actions} actions, {'a' if self.state_size else 'no'} state()"

    def ordered(self, agents: Sequence[str]) -> Layout:
        """With its seats in the order of these names; as it is where these are other names."""
        if sorted(agents) != sorted(self.agents):
            return self
        return self._replace(seats=tuple(sorted(self.seats, key=lambda seat: agents.index(one_line(seat.agent)))))

    def state(self, env: Env) -> Array:
        """The environment's state (state_size,)."""
        given = env.state()
        if self.state_space is not None:
            return flatten(self.state_space, given, "state() gave")
        state = as_numbers(given)
        if state is None or state.size != self.state_size:
            raise Complaint(f"state() gave {in_words(given)}, {self.state_size} at the start")
        return state


def layout_of(env: Env) -> Layout:
    """Read the layout off an environment, which is reset for it. Raises Complaint naming agent and space."""
    parts(env.reset(seed=0), "reset", OF_RESET)  # some know their agents and spaces only then
    seats = tuple(seat_of(env, agent) for agent in getattr(env, "possible_agents", None) or env.agents)
    if len({type(seat.action_space) for seat in seats}) != 1:
        acts = ", ".join(f"{seat.agent}: {seat.action_space}" for seat in seats) or "none, for there are no agents"
        raise Complaint(f"actions must be all Discrete or all Box; they are {acts}")
    layout = Layout(seats, max_cycles=_max_cycles(env), **_state(env))
    if len(set(layout.agents)) < len(seats):
        raise Complaint(f"agents need names of their own; they are {', '.join(layout.agents)}")
    return layout


def spec_of(layouts: Sequence[Layout], episode_steps: int) -> EnvSpec:
    """Of a family with these tasks: sizes are the largest of all."""
    first = layouts[0]
    obs_sizes = tuple(max(sizes) for sizes in zip(*(layout.obs_sizes for layout in layouts), strict=True))
    obs_images = common([seat.form for layout in layouts for seat in layout.seats])
    state_images = common([layout.state_form for layout in layouts])
    if obs_images is not None:
        obs_sizes = (obs_images.size,) * len(obs_sizes)
    if not first.state_size and obs_images is not None:
        state_images = obs_images._replace(n=len(obs_sizes))
    action_sizes = tuple(max(sizes) for sizes in zip(*(layout.action_sizes for layout in layouts), strict=True))
    types = [_NUMBER.sub("", agent) for agent in first.agents]
    obs_dim, state_sizes = max(obs_sizes), [layout.state_size for layout in layouts]
    return EnvSpec(
        n_agents=len(types),
        obs_dim=obs_dim,
        state_dim=state_images.size if state_images else max(state_sizes) or len(types) * obs_dim,
        action_dim=max(action_sizes),
        is_discrete=first.is_discrete,
        episode_steps=episode_steps,
        obs_sizes=obs_sizes,
        action_sizes=action_sizes,
        agent_types=tuple(types.index(kind) for kind in types),
        obs_images=obs_images,
        state_images=state_images,
    )


def _state(env: Env) -> dict[str, Any]:
    """What a layout says of the state: its size, and its space or form where that is needed to read it."""
    try:
        state = env.state()
    except Exception:  # there are many ways not to have one
        state = None
    if state is None:
        return {"state_size": 0}
    space = getattr(env, "state_space", None)
    if isinstance(space, (spaces.Dict, spaces.Tuple)) and is_flat(space):
        return {"state_size": flatten(space, state, "state() gave").size, "state_space": space}
    numbers = as_numbers(state)
    if numbers is None:
        raise Complaint(f"state() gave {in_words(state)}: it must be an array of numbers, or of its state_space")
    return {"state_size": numbers.size, "state_form": form_of(np.shape(state), numbers.dtype)}


def _max_cycles(env: Env) -> int:
    limit = getattr(env.unwrapped, "max_cycles", None)
    return int(limit) if isinstance(limit, (int, float, np.integer)) and math.isfinite(limit) else 0
