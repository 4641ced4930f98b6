"""Families that are dishonest, each in one way."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from envs.core import Observation, Scene, StepResult, replace_rows
from envs.toy import Corners, CornersBatch, CornersConfig


class Family(Corners):
    """``toy-corners``, with batches of another class, and other tasks or facts."""

    def __init__(self, batch: type[CornersBatch] = CornersBatch) -> None:
        super().__init__("dishonest", CornersConfig(), np.random.default_rng(0))
        self._batch = batch

    def make(self, n_rows: int, device: torch.device, generator: torch.Generator) -> CornersBatch:
        return self._batch(self, n_rows, device, generator)


class GlobalRandomness(CornersBatch):
    def step(self, action: Tensor) -> StepResult:
        return super().step(action + 0.1 * torch.rand(2))


class OwnSeed(CornersBatch):
    def __init__(self, family: Corners, n_rows: int, device: torch.device, generator: torch.Generator) -> None:
        super().__init__(family, n_rows, device, torch.Generator().manual_seed(7))


class RowsStartAlike(CornersBatch):
    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        super().reset(tasks, where)
        self.now = self.now._replace(pos=self.now.pos[:1].repeat(len(tasks), 1, 1))
        return Observation(*self._views()[:2], None, self._views()[2])


class SameTask(CornersBatch):
    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        return super().reset(torch.zeros_like(tasks), where)


class DriftsWithResets(CornersBatch):
    """As a simulator does whose model is edited in place at every reset."""

    scale = 1.0

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        self.scale *= 0.9
        return super().reset(tasks, where)

    def step(self, action: Tensor) -> StepResult:
        return super().step(action.clamp(-1, 1) * self.scale)


class OneStreamForStarts(CornersBatch):
    def __init__(self, family: Corners, n_rows: int, device: torch.device, generator: torch.Generator) -> None:
        super().__init__(family, n_rows, device, generator)
        self.generator = generator

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        kept = None if where is None else self.now
        super().reset(tasks)
        self.now = self.now if kept is None or where is None else replace_rows(kept, self.now, where)
        obs, state, alive = self._views()
        return Observation(obs, state, None, alive)


class OneStreamForSteps(OneStreamForStarts):
    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        return CornersBatch.reset(self, tasks, where)

    def step(self, action: Tensor) -> StepResult:
        return super().step(action.clamp(-1, 1) * torch.rand(4, 1, 1, generator=self.generator))


class ResetsAll(CornersBatch):
    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        return super().reset(tasks)


class ResetsNone(CornersBatch):
    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        return super().reset(tasks, None if where is None else torch.zeros_like(where))


class ResetsAllClocks(CornersBatch):
    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        shown = super().reset(tasks, where)
        self.now.elapsed.zero_()
        return shown


class ResetsAllTasks(CornersBatch):
    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        shown = super().reset(tasks, where)
        self.now = self.now._replace(goal=self._goals[tasks])
        return shown


class RowsMix(CornersBatch):
    def step(self, action: Tensor) -> StepResult:
        return super().step(action.clamp(-1, 1) - 0.1 * action.clamp(-1, 1).mean(dim=0))


class SharesItsState(CornersBatch):
    def step(self, action: Tensor) -> StepResult:
        return super().step(action)._replace(state=self.now.pos.flatten(1))


class SharesItsTasks(CornersBatch):
    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        self.given = tasks
        return super().reset(tasks, where)

    def step(self, action: Tensor) -> StepResult:
        self.now = self.now._replace(goal=self._goals[self.given])
        return super().step(action)


class ReusesItsReward(CornersBatch):
    def __init__(self, family: Corners, n_rows: int, device: torch.device, generator: torch.Generator) -> None:
        super().__init__(family, n_rows, device, generator)
        self.buffer = torch.zeros(n_rows, 2)

    def step(self, action: Tensor) -> StepResult:
        result = super().step(action)
        return result._replace(reward=self.buffer.copy_(result.reward))


class WritesIntoActions(CornersBatch):
    def step(self, action: Tensor) -> StepResult:
        return super().step(action.mul_(0.5))


class NeverEnds(CornersBatch):
    def step(self, action: Tensor) -> StepResult:
        result = super().step(action)
        return result._replace(truncated=torch.zeros_like(result.truncated))


class EndsEarly(CornersBatch):
    def step(self, action: Tensor) -> StepResult:
        return super().step(action)._replace(truncated=self.now.elapsed >= self.spec.episode_steps - 1)


class EndsTwice(CornersBatch):
    def step(self, action: Tensor) -> StepResult:
        result = super().step(action)
        return result._replace(terminated=result.truncated.clone())


class Unclamped(CornersBatch):
    def step(self, action: Tensor) -> StepResult:
        start = self.now.pos
        result = super().step(action)
        self.now = self.now._replace(pos=start + 0.01 * action)
        obs, state, _ = self._views()
        return result._replace(obs=obs, state=state)


class WrongDtype(CornersBatch):
    def step(self, action: Tensor) -> StepResult:
        result = super().step(action)
        return result._replace(reward=result.reward.double())


class WrongShape(CornersBatch):
    def step(self, action: Tensor) -> StepResult:
        result = super().step(action)
        return result._replace(reward=result.reward[:, 0])


class Expanded(CornersBatch):
    def step(self, action: Tensor) -> StepResult:
        result = super().step(action)
        return result._replace(reward=result.reward[:, :1].expand(-1, 2))


class NotFinite(CornersBatch):
    def step(self, action: Tensor) -> StepResult:
        result = super().step(action)
        return result._replace(reward=result.reward.log())


class LegalThoughContinuous(CornersBatch):
    def step(self, action: Tensor) -> StepResult:
        return super().step(action)._replace(legal=torch.ones(4, 2, 2, dtype=torch.bool))


class OtherSpec(CornersBatch):
    def __init__(self, family: Corners, n_rows: int, device: torch.device, generator: torch.Generator) -> None:
        super().__init__(family, n_rows, device, generator)
        self.spec = self.spec._replace(episode_steps=7)


class NothingToDraw(CornersBatch):
    def scene(self, row: int) -> Scene:
        return Scene((), -1.0, 1.0)
