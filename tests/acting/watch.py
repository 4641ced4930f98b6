"""An environment that shows what time it is, and actors whose modes depend visibly on what they see."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from envs.core import EnvSpec, Observation, Scene, StepResult
from tests.small_systems import draw

SPEC = EnvSpec(n_agents=2, obs_dim=3, state_dim=1, action_dim=2, is_discrete=False, episode_steps=9)
EPISODE_STEPS = torch.tensor([2, 3, 5])  # of each row; even episodes terminate, odd ones run out of time
T, B, N = 7, len(EPISODE_STEPS), SPEC.n_agents


class Watch:
    """An environment that shows each agent (task, episodes before this one, steps in it)."""

    spec = SPEC

    def __init__(self) -> None:
        self.task = self.episode = self.step_number = torch.zeros(B, dtype=torch.int64)

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        self.episode = torch.zeros(B, dtype=torch.int64) if where is None else self.episode + where
        self.step_number = torch.zeros_like(tasks) if where is None else self.step_number.masked_fill(where, 0)
        self.task = tasks
        return Observation(*self._views(), None, torch.ones(B, N, dtype=torch.bool))

    def step(self, action: Tensor) -> StepResult:
        self.step_number = self.step_number + 1
        ended, is_even = self.step_number == EPISODE_STEPS, self.episode % 2 == 0
        obs, state = self._views()
        alive = torch.ones(B, N, dtype=torch.bool)
        return StepResult(obs, state, obs[..., 2], ended & is_even, ended & ~is_even, None, alive)

    def scene(self, row: int) -> Scene:
        return Scene((), -1.0, 1.0)

    def _views(self) -> tuple[Tensor, Tensor]:
        shown = torch.stack([self.task, self.episode, self.step_number], dim=-1).float()
        return shown[:, None].repeat(1, N, 1), shown[:, :1]


class Leaving(Watch):
    """A watch that agent 1 leaves in the first step of an episode."""

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        seen = super().reset(tasks, where)
        seen.alive[:, 1] = self.step_number == 0
        return seen

    def step(self, action: Tensor) -> StepResult:
        result = super().step(action)
        result.alive[:, 1] = False
        return result


def sharpen(actor: nn.Module) -> None:
    """Make the modes of an untrained actor, whose last layer is tiny, depend visibly on its input."""
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.add_(0.3 * draw(*parameter.shape, seed=parameter.numel()))
