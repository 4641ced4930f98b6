"""simple_speaker_listener of mpe2: one agent knows the goal and cannot move, the other moves and hears it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from envs.mpe.layout import Kind, Layout
from envs.mpe.scenario import Scenario, ScenarioBatch
from envs.mpe.world import Body, World

AGENT = Body(size=0.075, collides=False)
LANDMARK = Body(size=0.04, collides=False)
N_LANDMARKS = 3
N_WORDS = 3


class SimpleSpeakerListener(Scenario):
    task_name = "guide"
    colours = ((0.65, 0.15, 0.15), (0.15, 0.65, 0.15), (0.15, 0.15, 0.65))

    def _layout(self) -> Layout:
        speaker = Kind(1, AGENT, 3, is_movable=False, n_words=N_WORDS)
        listener = Kind(1, AGENT, 2 + 2 * N_LANDMARKS + N_WORDS)
        return Layout((speaker, listener), (LANDMARK,) * N_LANDMARKS, n_goals=1, shared_reward=True)

    def _batch(self, world: World, n_rows: int, generator: torch.Generator) -> SimpleSpeakerListenerBatch:
        return SimpleSpeakerListenerBatch(self, world, n_rows, generator)


class SimpleSpeakerListenerBatch(ScenarioBatch):
    """Rows of ``SimpleSpeakerListener``. The speaker has no place: nobody would see it.

    Observation of the speaker: the goal's colour. Of the listener: own velocity, relative positions of landmarks, what
    was said. Reward of both: minus the listener's squared distance to the goal.
    """

    def __init__(self, family: SimpleSpeakerListener, world: World, n_rows: int, generator: torch.Generator) -> None:
        super().__init__(family, world, n_rows, generator)
        self._colours = F.pad(self._colours, (0, self.spec.obs_dim - self._colours.shape[1]))  # once, not in each step

    def _obs(self) -> Tensor:
        pos, vel, landmarks, _, said, _ = self.now
        around = (landmarks - pos).view(self._n_rows, 1, -1)  # there is but one listener
        return torch.cat((self._goal_colours(), vel, around, said), dim=-1).view(self._n_rows, 2, -1)

    def _reward(self) -> Tensor:
        apart = self.now.pos - self._goal_places()
        return -(apart * apart).sum(-1).expand(-1, 2)
