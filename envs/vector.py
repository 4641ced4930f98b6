"""Families as vector environments of Gymnasium, one player for the whole team: ``make_vector_env("mpe-wind", 64)``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from envs.core import Refusal, TaskFamily
from envs.episodes import Episodes, chosen_family

Array = NDArray[Any]


def make_vector_env(
    name: str,
    num_envs: int,
    *,
    task: int | None = None,
    split: str = "train",
    task_seed: int = 0,
    tells_task: bool = False,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    **settings: Any,
) -> FamilyVectorEnv:
    """The family ``name`` as a ``gymnasium.vector.VectorEnv`` of ``num_envs`` rows, stepped together.

    ``settings`` and ``task_seed`` as ``make_parallel_env`` has them, other keywords as ``FamilyVectorEnv`` does.
    """
    family = chosen_family(name, task_seed, settings)
    return FamilyVectorEnv(
        family, num_envs, task=task, split=split, tells_task=tells_task, autoreset_mode=autoreset_mode
    )


class FamilyVectorEnv(VectorEnv[Any, Any, Any]):
    """B rows of a family, in each of which one player acts for all agents and is paid their mean reward.

    It sees all agents' observations, one after the other, and acts in their actions likewise: in one vector in [-1, 1],
    or one choice for each agent (MultiDiscrete; Discrete of a lone agent). Where some may be illegal, the info holds
    ``action_mask`` (B, all agents' numbers of actions).

    task, split, tells_task: as ``FamilyEnv`` has them; each row has its own task. ``reset`` follows
    ``options={"task": number, or numbers (B,)}``, and ``"reset_mask"`` (B,) bool, as Gymnasium has it.

    Raises Refusal for a family whose agents are rivals: no player can want what all of them want.
    """

    def __init__(
        self,
        family: TaskFamily,
        num_envs: int,
        *,
        task: int | None = None,
        split: str = "train",
        tells_task: bool = False,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        if family.has_rivals:
            raise Refusal(f"{family.name}: its agents are rivals, so none can act for all: use make_parallel_env")
        self.family, self.num_envs, spec = family, num_envs, family.spec
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"name": family.name, "render_modes": [], "autoreset_mode": self.autoreset_mode}
        self._tells_task = tells_task
        self._episodes = Episodes(family, num_envs, task, split)
        self._ended = torch.zeros(num_envs, dtype=torch.bool)
        action_sizes = spec.action_sizes or (spec.action_dim,) * spec.n_agents
        self._seen = _columns(spec.obs_sizes or (spec.obs_dim,) * spec.n_agents, spec.obs_dim)
        self._acted = _columns(action_sizes, spec.action_dim)
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (len(self._seen),), np.float32)
        self.single_action_space: spaces.Space[Any] = spaces.MultiDiscrete(list(action_sizes))
        if not spec.is_discrete:
            self.single_action_space = spaces.Box(-1.0, 1.0, (len(self._acted),), np.float32)
        elif spec.n_agents == 1:
            self.single_action_space = spaces.Discrete(action_sizes[0])
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Begin episodes in all rows, or in those of ``options["reset_mask"]``; with equal seeds, equal ones."""
        super().reset(seed=seed)
        chosen = options or {}
        where = torch.as_tensor(chosen["reset_mask"]) if "reset_mask" in chosen else None
        if seed is not None and where is not None:
            raise ValueError(f"seed={seed} decides what all rows draw: give it without a reset_mask")
        if seed is not None:
            self._episodes.seed(seed)
        tasks = None
        if "task" in chosen:
            tasks = torch.from_numpy(np.broadcast_to(chosen["task"], self.num_envs).astype(np.int64))
        start = self._episodes.start(where, tasks)
        self._ended = torch.zeros_like(self._ended) if where is None else self._ended & ~where
        return self._view(start.obs), self._info(start.legal)

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Act in every row; one that has ended begins anew, now or in the next step, as ``autoreset_mode`` says."""
        mode, waiting = self.autoreset_mode, self._ended
        if mode == AutoresetMode.DISABLED and waiting.any():
            rows = waiting.nonzero().flatten().tolist()
            raise ValueError(f"rows {rows} have ended: reset(options={{'reset_mask': ...}}) has to begin them anew")
        result = self._episodes.step(self._joint(actions))
        reward, terminated, truncated = result.reward.mean(-1), result.terminated, result.truncated
        if mode == AutoresetMode.NEXT_STEP:
            reward, terminated, truncated = reward.where(~waiting, 0.0), terminated & ~waiting, truncated & ~waiting
        self._ended = terminated | truncated
        obs, legal, info = result.obs, result.legal, {}
        restart = self._ended if mode == AutoresetMode.SAME_STEP else waiting
        if restart.any():
            if mode == AutoresetMode.SAME_STEP:
                info = self._final(self._view(obs), self._info(legal))
            start = self._episodes.start(restart)
            obs, legal = start.obs, start.legal
        ends = terminated.numpy(), truncated.numpy()
        return self._view(obs), reward.numpy(), *ends, {**self._info(legal), **info}

    def _final(self, obs: Array, info: dict[str, Any]) -> dict[str, Any]:
        """What the rows that end show last, as ``SyncVectorEnv`` tells it."""
        ended = self._ended.numpy()
        last = np.full(self.num_envs, None, object)
        for row in np.flatnonzero(ended):
            last[row] = obs[row]
        masks = {f"_{name}": ended for name in info}
        return {"final_obs": last, "_final_obs": ended, "final_info": {**info, **masks}, "_final_info": ended}

    def _view(self, obs: Tensor) -> Array:
        return obs.flatten(1)[:, self._seen].float().numpy()

    def _info(self, legal: Tensor | None) -> dict[str, Any]:
        info = self._episodes.hidden() if self._tells_task else {}
        if legal is not None:
            info["action_mask"] = legal.flatten(1)[:, self._acted].to(torch.int8).numpy()
        return info

    def _joint(self, actions: Array) -> Tensor:
        """(B, N) int64, or (B, N, action_dim)."""
        spec = self.family.spec
        if spec.is_discrete:
            return torch.as_tensor(np.asarray(actions), dtype=torch.int64).view(self.num_envs, spec.n_agents)
        joint = torch.zeros(self.num_envs, spec.n_agents * spec.action_dim)
        joint[:, self._acted] = torch.as_tensor(np.asarray(actions), dtype=torch.float32)
        return joint.view(self.num_envs, spec.n_agents, spec.action_dim)


def _columns(sizes: tuple[int, ...], width: int) -> Tensor:
    """Of the true entries in rows of agents that are padded to ``width``."""
    return torch.cat([n * width + torch.arange(size) for n, size in enumerate(sizes)])
