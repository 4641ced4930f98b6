"""What the scenarios of mpe2 have in common: a single task, goals and messages.

mpe2 (github.com/Farama-Foundation/MPE2) continues the environments of Lowe et al. 2017 (arXiv 1706.02275).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from envs.core import Marker, Scene, Task, TaskFamily, everyone_else
from envs.mpe.batch import ParticleBatch
from envs.mpe.layout import LEARNING, MOVES, START_RANGE, Layout, ScenarioConfig, places_of, spec_of
from envs.mpe.world import Motion, World
from envs.streams import Drawn

VIEW = 1.5  # m, half the side of pictures
CORNER = (0.2 - VIEW, VIEW - 0.2)  # m, where pictures show agents that stand nowhere in particular


class ScenarioState(NamedTuple):
    pos: Tensor  # (B, M, 2)   of the agents that can move
    vel: Tensor  # (B, M, 2)
    landmarks: Tensor  # (B, L, 2)
    goals: Tensor  # (B, G, L)   1 where the landmark is the goal
    said: Tensor  # (B, S, n_words)   in [0, 1], by the agents that speak in the last step; zeros at first
    elapsed: Tensor  # (B,) int64   steps since the episode's start


class Scenario(TaskFamily):
    """A scenario of mpe2: a single task, with nothing to infer. What other frameworks train on."""

    task_name: ClassVar[str]
    moves_first: ClassVar[bool] = True  # see ``World``
    colours: ClassVar[tuple[tuple[float, float, float], ...]] = ()  # of the landmarks, where goals are told by them
    config: ScenarioConfig

    def __init__(self, name: str, config: ScenarioConfig, generator: np.random.Generator) -> None:
        super().__init__(name, config, generator)
        self.config = config
        self.tasks = (Task(self.task_name, {}, (1.0,)),)
        self.layout = self._layout()
        self.spec = spec_of(self.layout, config)
        self.has_rivals = len(self.layout.learners) > 1 and not self.spec.shared_reward

    def make(
        self,
        n_rows: int,
        device: torch.device,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> ScenarioBatch:
        layout = self.layout
        bodies = [kind.body for kind in layout.movable for _ in range(kind.n_agents)]
        fixed = layout.landmarks if layout.has_obstacles else ()
        world = World(bodies, device, dtype, fixed=fixed, has_walls=False, moves_first=self.moves_first)
        return self._batch(world, n_rows, generator)

    @abstractmethod
    def _layout(self) -> Layout:
        """What is in the scenario, by ``config``."""

    @abstractmethod
    def _batch(self, world: World, n_rows: int, generator: torch.Generator) -> ScenarioBatch:
        """Rows of the scenario in ``world``."""


class Remembered:
    """A function of two tensors, anew only where either is another tensor; landmarks and goals last an episode.

    What is written into them in place goes unseen.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._function = function
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        if self._last is None or self._last[0] is not a or self._last[1] is not b:
            self._last = a, b, self._function(a, b)
        return self._last[2]


class ScenarioBatch(ParticleBatch):
    """Rows of a scenario. ``now`` may be set, to place a given state.

    A subclass says what agents see and are paid.
    State: positions, velocities, landmarks; a one-hot vector for each goal; what was said.
    """

    now: ScenarioState

    def __init__(self, family: Scenario, world: World, n_rows: int, generator: torch.Generator) -> None:
        super().__init__(family.spec, world, n_rows, generator)
        layout = self._layout = family.layout
        self._n_movable = sum(kind.n_agents for kind in layout.movable)
        seen = everyone_else(layout.n_landmarks + self._n_movable, world.device)[layout.n_landmarks :]
        self._seen = seen.flatten()  # (M (L + M - 1),)   landmarks, then agents; not oneself
        self._movable = places_of(layout.kinds, lambda kind: kind.is_movable)
        self._speaking = places_of(layout.kinds, lambda kind: kind.n_words > 0)
        self._goal_places_of, self._goal_colours_of = Remembered(torch.matmul), Remembered(torch.matmul)
        self._unmoved = Remembered(_side_by_side)
        self._colours = torch.tensor(family.colours, device=world.device, dtype=world.dtype)  # (L, 3), or empty
        self._set_meaning_of_actions()

    def _set_meaning_of_actions(self) -> None:
        world, kinds, sizes = self._world, self._layout.kinds, self.spec.action_sizes
        self._n_words = max(kind.n_words for kind in kinds)
        movers_speak = any(kind.is_movable and kind.n_words for kind in kinds)
        self._first_word = 2 if movers_speak else 0  # in continuous actions
        number = torch.arange(max(len(MOVES), self.spec.action_dim))
        word = number // len(MOVES) if movers_speak else number
        moves = torch.tensor(MOVES)[number % len(MOVES)]  # (n_actions, 2)
        words = (word[:, None] == torch.arange(self._n_words)).float()  # (n_actions, n_words)
        words[word >= self._n_words] = math.nan  # no word at all: not for those that speak
        self._meanings = torch.cat((moves, words), dim=1).to(world.device, world.dtype)
        is_padded = self.spec.is_discrete and len(set(sizes)) > 1
        legal = torch.arange(self.spec.action_dim) < torch.tensor(sizes)[:, None]  # (N, n_actions)
        self._legal_actions = legal.to(world.device).repeat(self._n_rows, 1, 1) if is_padded else None

    def scene(self, row: int) -> Scene:
        now, layout = self.now, self._layout
        is_goal, places = now.goals[row].any(dim=0).tolist(), iter(now.pos[row].tolist())
        markers = [
            Marker(x, y, body.size, "landmark", goal)
            for body, (x, y), goal in zip(layout.landmarks, now.landmarks[row].tolist(), is_goal, strict=True)
        ]
        for kind in layout.kinds:
            role = "agent" if kind.played_by == LEARNING else "opponent"
            for _ in range(kind.n_agents):
                x, y = next(places) if kind.is_movable else CORNER
                markers.append(Marker(x, y, kind.body.size, role, False))
        return Scene(tuple(markers), -VIEW, VIEW)

    def _around(self) -> Tensor:
        """Where the landmarks, then the other agents, are from each agent that can move: (B, M, 2 (L + M - 1))."""
        pos = self.now.pos
        points = torch.cat((self.now.landmarks, pos), dim=1)
        seen = points.index_select(1, self._seen).view(*pos.shape[:2], -1, 2)  # (B, M, L + M - 1, 2)
        return (seen - pos[:, :, None]).flatten(2)

    def _goal_places(self) -> Tensor:
        """(B, G, 2)."""
        return self._goal_places_of(self.now.goals, self.now.landmarks)

    def _goal_colours(self) -> Tensor:
        """(B, G, 3)."""
        return self._goal_colours_of(self.now.goals, self._colours)

    def _draw(self, generator: torch.Generator) -> Drawn:
        layout, device = self._layout, self._world.device
        points = self._uniform(generator, (self._n_rows, self._n_movable + layout.n_landmarks, 2), -1.0, 1.0)
        shape = (self._n_rows, layout.n_goals)
        return points, torch.randint(max(1, layout.n_landmarks), shape, device=device, generator=generator)

    def _start(self, tasks: Tensor, *drawn: Tensor) -> ScenarioState:
        (points, goals), layout, world = drawn, self._layout, self._world
        pos, landmarks = points.split((self._n_movable, layout.n_landmarks), dim=1)
        n_speakers = sum(kind.n_agents for kind in layout.kinds if kind.n_words)
        return ScenarioState(
            pos=pos * START_RANGE,
            vel=torch.zeros_like(pos),
            landmarks=landmarks * layout.landmark_range,
            goals=torch.eye(layout.n_landmarks, device=world.device, dtype=world.dtype)[goals],
            said=pos.new_zeros(self._n_rows, n_speakers, self._n_words),
            elapsed=torch.zeros_like(tasks),
        )

    def _after(self, action: Tensor) -> ScenarioState:
        pos, vel, landmarks, goals, said, elapsed = self.now
        everyones = self._everyones(action)
        if self.spec.is_discrete:
            meaning = F.embedding(everyones, self._meanings)
            control = meaning[:, self._movable, :2]
            said = meaning[:, self._speaking, 2:] if self._n_words else said
        else:
            control = everyones[:, self._movable, :2].clamp(-1, 1)
            words = slice(self._first_word, self._first_word + self._n_words)
            said = (everyones[:, self._speaking, words].clamp(-1, 1) + 1) / 2 if self._n_words else said
        pos, vel = self._world.advance(Motion(pos, vel), control, landmarks if self._layout.has_obstacles else None)
        return ScenarioState(pos, vel, landmarks, goals, said, elapsed + 1)

    def _everyones(self, action: Tensor) -> Tensor:
        """What all agents do, opponents too, where the learners do ``action``: (B, n), or (B, n, 2)."""
        return action

    def _legal(self) -> Tensor | None:
        legal = self._legal_actions
        return None if legal is None else legal.clone()

    def _state(self) -> Tensor:
        pos, vel, landmarks, goals, said, _ = self.now
        parts = [pos.flatten(1), vel.flatten(1), self._unmoved(landmarks, goals)]
        return torch.cat([*parts, said.flatten(1)] if self._n_words else parts, dim=1)


def _side_by_side(landmarks: Tensor, goals: Tensor) -> Tensor:
    return torch.cat((landmarks.flatten(1), goals.flatten(1)), dim=1)
