"""Families as PettingZoo environments, for other libraries: ``make_parallel_env("mpe-wind", task=3)``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv
from torch import Tensor

from envs.core import TaskFamily
from envs.episodes import Episodes, chosen_family


def make_parallel_env(
    name: str,
    *,
    task: int | None = None,
    split: str = "train",
    task_seed: int = 0,
    tells_task: bool = False,
    observes_mask: bool = False,
    **settings: Any,
) -> FamilyEnv:
    """The family ``name`` as a ``pettingzoo.ParallelEnv``; ``settings`` are the family's, as ``tasks list`` has them.

    task_seed: the tasks are those of a training run with this ``seed``. Other keywords as ``FamilyEnv`` has them.
    Raises KeyError or Refusal, in one line, for names and values that there are not.
    """
    family = chosen_family(name, task_seed, settings)
    return FamilyEnv(family, task=task, split=split, tells_task=tells_task, observes_mask=observes_mask)


class FamilyEnv(ParallelEnv[str, Any, Any]):
    """One row of a family. Agents see what is theirs, without padding; continuous actions lie in [-1, 1].

    task: the number of the task of all episodes; None: each reset draws one from ``split``. ``reset`` follows
    ``options={"task": number}`` before both.
    tells_task: infos hold what is hidden, ``task`` and ``task_features``.
    observes_mask: where some actions may be illegal, observations are dicts of ``observation`` and ``action_mask``;
    else the mask stands in the infos.

    An agent that leaves is terminated, and does not come back in its episode.
    """

    render_mode = None

    def __init__(
        self,
        family: TaskFamily,
        *,
        task: int | None = None,
        split: str = "train",
        tells_task: bool = False,
        observes_mask: bool = False,
    ) -> None:
        self.family, spec = family, family.spec
        self.metadata = {"name": family.name, "render_modes": [], "is_parallelizable": True}
        self._episodes = Episodes(family, 1, task, split)
        self._tells_task = tells_task
        self._observes_mask = observes_mask and self._episodes.has_masks()
        self.possible_agents = list(family.agents or (f"agent_{n}" for n in range(spec.n_agents)))
        self.agents: list[str] = []
        self._obs_sizes = spec.obs_sizes or (spec.obs_dim,) * spec.n_agents
        self._action_sizes = spec.action_sizes or (spec.action_dim,) * spec.n_agents
        self.observation_spaces = dict(zip(self.possible_agents, self._observed(), strict=True))
        self.action_spaces = dict(zip(self.possible_agents, self._acted(), strict=True))
        self.state_space = _reals(spec.state_dim)

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Begin an episode; with equal seeds, and actions, equal ones."""
        if seed is not None:
            self._episodes.seed(seed)
        task = (options or {}).get("task")
        start = self._episodes.start(tasks=None if task is None else torch.tensor([task]))
        self.agents = [agent for n, agent in enumerate(self.possible_agents) if start.alive[0, n]]
        self._look(start.state, start.legal)
        return self._views(start.obs), self._infos()

    def step(self, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        """Act with all agents that there are. Raises KeyError for a missing action, ValueError for one out of range."""
        if not self.agents:
            return {}, {}, {}, {}, {}
        result = self._episodes.step(self._joint(actions))
        self._look(result.state, result.legal)
        is_there = dict(zip(self.possible_agents, result.alive[0].tolist(), strict=True))
        paid = dict(zip(self.possible_agents, result.reward[0].tolist(), strict=True))
        is_over, is_late = bool(result.terminated[0]), bool(result.truncated[0])
        rewards = {agent: paid[agent] for agent in self.agents}
        gone = {agent: is_over or not is_there[agent] for agent in self.agents}
        late = {agent: is_late and not gone[agent] for agent in self.agents}
        obs, infos = self._views(result.obs), self._infos()
        self.agents = [agent for agent in self.agents if not (gone[agent] or late[agent])]
        return obs, rewards, gone, late, infos

    def state(self) -> NDArray[np.float32]:
        """What only training may know: (state_dim,)."""
        return self._state

    def _observed(self) -> list[spaces.Space[Any]]:
        plain: list[spaces.Space[Any]] = [_reals(size) for size in self._obs_sizes]
        if not self._observes_mask:
            return plain
        masks = [spaces.Box(0, 1, (size,), np.int8) for size in self._action_sizes]
        return [spaces.Dict(observation=box, action_mask=mask) for box, mask in zip(plain, masks, strict=True)]

    def _acted(self) -> list[spaces.Space[Any]]:
        if self.family.spec.is_discrete:
            return [spaces.Discrete(size) for size in self._action_sizes]
        return [spaces.Box(-1.0, 1.0, (size,), np.float32) for size in self._action_sizes]

    def _look(self, state: Tensor, legal: Tensor | None) -> None:
        self._state: NDArray[np.float32] = state[0].float().numpy()
        self._legal = None if legal is None else legal[0].to(torch.int8).numpy()  # (N, n_actions)

    def _numbered(self) -> list[tuple[int, str]]:
        """The agents that are there, with their places in the axes N."""
        return [(n, agent) for n, agent in enumerate(self.possible_agents) if agent in self.agents]

    def _views(self, obs: Tensor) -> dict[str, Any]:
        seen = obs[0].float().numpy()
        views: dict[str, Any] = {agent: seen[n, : self._obs_sizes[n]] for n, agent in self._numbered()}
        if self._observes_mask:
            masks = self._masks()
            views = {agent: {"observation": view, "action_mask": masks[agent]} for agent, view in views.items()}
        return views

    def _masks(self) -> dict[str, NDArray[np.int8]]:
        if self._legal is None:
            return {}
        return {agent: self._legal[n, : self._action_sizes[n]] for n, agent in self._numbered()}

    def _infos(self) -> dict[str, dict[str, Any]]:
        infos: dict[str, dict[str, Any]] = {agent: {} for agent in self.agents}
        if not self._observes_mask:
            for agent, mask in self._masks().items():
                infos[agent]["action_mask"] = mask
        if self._tells_task:
            hidden = {name: values[0] for name, values in self._episodes.hidden().items()}
            for info in infos.values():
                info.update(hidden)
        return infos

    def _joint(self, actions: dict[str, Any]) -> Tensor:
        """All agents' actions as a batch takes them; of those that left, the first that is legal."""
        spec = self.family.spec
        if not spec.is_discrete:
            joint = torch.zeros(1, spec.n_agents, spec.action_dim)
            for n, agent in self._numbered():
                joint[0, n, : self._action_sizes[n]] = torch.as_tensor(actions[agent], dtype=torch.float32)
            return joint
        first = np.zeros(spec.n_agents, np.int64) if self._legal is None else self._legal.argmax(-1)
        chosen = torch.from_numpy(first)
        for n, agent in self._numbered():
            action = int(actions[agent])
            if not 0 <= action < self._action_sizes[n]:
                raise ValueError(f"action {action} of {agent}: it has actions 0 to {self._action_sizes[n] - 1}")
            chosen[n] = action
        return chosen[None]


def _reals(size: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (size,), np.float32)
