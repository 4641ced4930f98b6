"""simple_spread of mpe2: agents cover landmarks and keep out of each other's way. One task, for reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs.core import EnvSpec, Marker, Scene, Task, TaskFamily, everyone_else, setting
from envs.mpe.batch import ParticleBatch
from envs.mpe.world import Body, World

AGENT = Body(size=0.15)
LANDMARK_SIZE = 0.05  # m, drawn only
START_RANGE = 1.0  # m; everything starts in plus and minus this on both axes
VIEW = 1.5  # m, half the side of pictures
MESSAGE_DIM = 2  # of the messages that agents never send, and always see as zeros
MOVES = (
    (0.0, 0.0),
    (-1.0, 0.0),
    (1.0, 0.0),
    (0.0, -1.0),
    (0.0, 1.0),
)  # discrete: none, left, right, down, up


@dataclass(frozen=True)
class SimpleSpreadConfig:
    n_agents: int = setting(3, "agents, and landmarks", low=1)
    local_ratio: float = setting(0.5, "share of own collisions in the reward; the rest is the team's", low=0, high=1)
    is_discrete: bool = setting(True, "five actions, not a force in the plane")
    episode_steps: int = setting(25, "time limit of an episode [steps]", low=1)


class SimpleSpreadState(NamedTuple):
    pos: Tensor  # (B, N, 2)
    vel: Tensor  # (B, N, 2)
    landmarks: Tensor  # (B, N, 2)
    elapsed: Tensor  # (B,) int64   steps since the episode's start


class SimpleSpread(TaskFamily):
    """A single task, with nothing to infer: what other frameworks train on."""

    def __init__(self, name: str, config: SimpleSpreadConfig, generator: np.random.Generator) -> None:
        super().__init__(name, config, generator)
        self.config = config
        self.tasks = (Task("cover", {}, (1.0,)),)
        n = config.n_agents
        self.spec = EnvSpec(
            n_agents=n,
            obs_dim=4 + 2 * n + (2 + MESSAGE_DIM) * (n - 1),
            state_dim=6 * n,
            action_dim=len(MOVES) if config.is_discrete else 2,
            is_discrete=config.is_discrete,
            episode_steps=config.episode_steps,
        )

    def make(
        self,
        n_rows: int,
        device: torch.device,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> SimpleSpreadBatch:
        world = World([AGENT] * self.config.n_agents, device, dtype, like_mpe2=True)
        return SimpleSpreadBatch(self.spec, self.config, world, n_rows, generator)


class SimpleSpreadBatch(ParticleBatch):
    """Rows of ``SimpleSpread``. ``now`` may be set, to place a given state.

    Observation: own velocity and position; relative positions of landmarks and of the other agents; their messages.
    State: positions, velocities, landmarks.
    Reward of agent i: (1 - local_ratio) times minus the distance from each landmark to its nearest agent, summed, less
    local_ratio for every agent that i collides with.
    """

    now: SimpleSpreadState

    def __init__(
        self, spec: EnvSpec, config: SimpleSpreadConfig, world: World, n_rows: int, generator: torch.Generator
    ) -> None:
        super().__init__(spec, world, n_rows, generator)
        self._local_ratio = config.local_ratio
        n = spec.n_agents
        self._seen = everyone_else(2 * n, world.device)[n:].flatten()  # (N (2 N - 1),)   landmarks, agents; not oneself
        self._moves = torch.tensor(MOVES, device=world.device, dtype=world.dtype)
        self._nobody = torch.eye(n, dtype=torch.bool, device=world.device)

    def _start(self, tasks: Tensor) -> SimpleSpreadState:
        n = self.spec.n_agents
        pos, landmarks = self._uniform((self._n_rows, 2 * n, 2), -START_RANGE, START_RANGE).chunk(2, dim=1)
        return SimpleSpreadState(pos.clone(), torch.zeros_like(pos), landmarks.clone(), torch.zeros_like(tasks))

    def _control(self, action: Tensor) -> Tensor:
        return self._moves[action] if self.spec.is_discrete else super()._control(action)

    def scene(self, row: int) -> Scene:
        landmarks = [Marker(x, y, LANDMARK_SIZE, "landmark", False) for x, y in self.now.landmarks[row].tolist()]
        agents = [Marker(x, y, AGENT.size, "agent", False) for x, y in self.now.pos[row].tolist()]
        return Scene((*landmarks, *agents), -VIEW, VIEW)

    def _obs(self) -> Tensor:
        pos, vel, landmarks, _ = self.now
        points = torch.cat((landmarks, pos), dim=1)
        seen = points.index_select(1, self._seen).view(*pos.shape[:2], -1, 2)  # (B, N, 2 N - 1, 2)
        silence = pos.new_zeros(*pos.shape[:2], MESSAGE_DIM * (self.spec.n_agents - 1))
        return torch.cat((vel, pos, (seen - pos[:, :, None]).flatten(2), silence), dim=-1)

    def _reward(self) -> Tensor:
        pos, landmarks = self.now.pos, self.now.landmarks
        uncovered = torch.linalg.vector_norm(landmarks[:, :, None] - pos[:, None], dim=-1).amin(-1).sum(-1)  # (B,)
        apart = torch.linalg.vector_norm(pos[:, :, None] - pos[:, None], dim=-1)  # (B, N, N)
        collisions = ((apart < 2 * AGENT.size) & ~self._nobody).to(pos.dtype).sum(-1)  # (B, N)
        return -(1 - self._local_ratio) * uncovered[:, None] - self._local_ratio * collisions

    def _state(self) -> Tensor:
        return torch.cat((self.now.pos, self.now.vel, self.now.landmarks), dim=1).flatten(1)
