"""What networks are told of the step before, and when it is forgotten: decided here, for acting and for learning.

With a memory that lasts for the trial, and all three inputs, a feed-forward recipe becomes RL² (Duan et al. 2016, arXiv
1611.02779): what there is to know of the task has to be remembered.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from envs.core import EnvSpec
from mg2l_kalei.networks.config import INPUTS, NetworkConfig
from mg2l_kalei.types import Step, Transition


class Recall:
    """Extends what is seen by the inputs of ``NetworkConfig.inputs``; without any, it leaves everything as it is."""

    def __init__(self, config: NetworkConfig, spec: EnvSpec) -> None:
        self.inputs = tuple(name for name in INPUTS if name in config.inputs)  # the episode's start stands last
        self.lasts_for_the_trial = config.memory == "trial"
        self._n_actions = spec.action_dim if spec.is_discrete else 0
        widths = {"action": spec.action_dim, "reward": 1, "episode_start": 1}
        self.size = sum(widths[name] for name in self.inputs)
        self.spec = spec._replace(  # of what networks see
            obs_dim=spec.obs_dim + self.size, state_dim=spec.state_dim + spec.n_agents * self.size
        )

    def forgets(self, episode_start: Tensor) -> Tensor:
        """Of a trial's episode starts (T, B), the steps before which everything is forgotten: (T, B) bool."""
        if not self.lasts_for_the_trial:
            return episode_start
        first = torch.zeros_like(episode_start)
        first[0] = True
        return first

    def restarted(self, remembered: Tensor | None, initial: Tensor | None, where: Tensor) -> Tensor | None:
        """What is remembered (B, N, size), where (B,) bool a new episode starts within the trial."""
        if remembered is None or initial is None or self.lasts_for_the_trial:
            return remembered
        return torch.where(where[:, None, None], initial, remembered)

    def of(self, transition: Transition) -> Tensor | None:
        """What is recalled of a step (..., B, N, *) in the next one: (..., B, N, size), without the episode's start."""
        if not self.inputs:
            return None
        parts = {
            "action": F.one_hot(transition.action, self._n_actions) if self._n_actions else transition.action,
            "reward": transition.reward.unsqueeze(-1),
            "episode_start": torch.zeros_like(transition.reward).unsqueeze(-1),
        }
        recalled = torch.cat([parts[name].to(transition.reward.dtype) for name in self.inputs], dim=-1)
        return torch.where(transition.alive.unsqueeze(-1), recalled, 0.0)

    def nothing(self, shape: tuple[int, ...], device: torch.device) -> Tensor | None:
        """What is recalled before the first step: zeros (*shape, size)."""
        return torch.zeros(*shape, self.size, device=device) if self.inputs else None

    def seen(self, obs: Tensor, recalled: Tensor | None, episode_start: Tensor) -> Tensor:
        """Observations (..., B, N, obs_dim) and what is recalled, with episode_start (..., B) marked in it."""
        if recalled is None:
            return obs
        return torch.cat([obs, self._marked(recalled, episode_start)], dim=-1)

    def extend(self, steps: Step) -> Step:
        """A trial (T, B, ...) whose observations and states, and their successors, are those that networks see."""
        after = self.of(steps.transition)  # (T, B, N, size)
        if after is None:
            return steps
        before = torch.cat([torch.zeros_like(after[:1]), after[:-1]])
        before = torch.where(self.forgets(steps.episode_start)[..., None, None], 0.0, before)
        before = self._marked(before, steps.episode_start)
        return steps._replace(
            obs=torch.cat([steps.obs, before], dim=-1),
            next_obs=torch.cat([steps.next_obs, after], dim=-1),
            state=torch.cat([steps.state, before.flatten(-2)], dim=-1),
            next_state=torch.cat([steps.next_state, after.flatten(-2)], dim=-1),
        )

    def _marked(self, recalled: Tensor, episode_start: Tensor) -> Tensor:
        if "episode_start" not in self.inputs:
            return recalled
        mark = episode_start[..., None, None].to(recalled.dtype).expand_as(recalled[..., :1])
        return torch.cat([recalled[..., :-1], mark], dim=-1)
