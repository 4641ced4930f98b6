"""What is in a scenario of mpe2: kinds of agents and what they can do, landmarks, goals.

Discrete actions are numbered as in mpe2: one of five moves, plus five times the word said. Continuous ones are a force
in the plane, where mpe2 has a thrust to each side, then a message, of which [-1, 1] stands for the [0, 1] others hear.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from envs.core import EnvSpec, setting
from envs.mpe.world import Body

MOVES = (
    (0.0, 0.0),
    (-1.0, 0.0),
    (1.0, 0.0),
    (0.0, -1.0),
    (0.0, 1.0),
)  # discrete: none, left, right, down, up
START_RANGE = 1.0  # m; agents start in plus and minus this on both axes
LEARNING = "learning"  # played by the learner, as all agents are where there are no opponents


@dataclass(frozen=True)
class ScenarioConfig:
    is_discrete: bool = setting(True, "choices among five moves, and words; otherwise forces in the plane, and numbers")
    episode_steps: int = setting(25, "time limit of an episode [steps]", low=1)


class Kind(NamedTuple):
    """Agents that are alike."""

    n_agents: int
    body: Body
    obs_size: int
    is_movable: bool = True
    n_words: int = 0  # that it can say; 0: it is silent
    played_by: str = LEARNING  # or the name of how opponents play

    def action_size(self, is_discrete: bool) -> int:
        """Number of actions, or width of the vector."""
        if is_discrete:
            return (len(MOVES) if self.is_movable else 1) * max(1, self.n_words)
        return (2 if self.is_movable else 0) + self.n_words


class Layout(NamedTuple):
    """What is in a scenario. Movable agents follow each other, and so do those who speak."""

    kinds: tuple[Kind, ...]  # in the order of mpe2's agents
    landmarks: tuple[Body, ...]
    landmark_range: float = START_RANGE  # m; landmarks lie in plus and minus this on both axes
    n_goals: int = 0  # landmarks that are drawn anew for each episode; one may be drawn twice
    shared_reward: bool = False  # whether all that learn are always paid the same

    @property
    def n_landmarks(self) -> int:
        return len(self.landmarks)

    @property
    def has_obstacles(self) -> bool:
        """Whether agents can bump into landmarks."""
        return any(landmark.collides for landmark in self.landmarks)

    @property
    def learners(self) -> tuple[Kind, ...]:
        return tuple(kind for kind in self.kinds if kind.played_by == LEARNING)

    @property
    def movable(self) -> tuple[Kind, ...]:
        return tuple(kind for kind in self.kinds if kind.is_movable)


def spec_of(layout: Layout, config: ScenarioConfig) -> EnvSpec:
    """Sizes for those that learn."""
    each = [kind for kind in layout.learners for _ in range(kind.n_agents)]
    n_movable = sum(kind.n_agents for kind in layout.movable)
    n_numbers_said = sum(kind.n_agents * kind.n_words for kind in layout.kinds)
    obs_sizes = tuple(kind.obs_size for kind in each)
    action_sizes = tuple(kind.action_size(config.is_discrete) for kind in each)
    is_mixed = len(layout.learners) > 1
    return EnvSpec(
        n_agents=len(each),
        obs_dim=max(obs_sizes),
        state_dim=4 * n_movable + (2 + layout.n_goals) * layout.n_landmarks + n_numbers_said,
        action_dim=max(action_sizes),
        is_discrete=config.is_discrete,
        episode_steps=config.episode_steps,
        obs_sizes=obs_sizes if is_mixed else (),
        action_sizes=action_sizes if is_mixed else (),
        agent_types=tuple(layout.learners.index(kind) for kind in each) if is_mixed else (),
        shared_reward=layout.shared_reward,
        ends_on_time=True,
    )


def places_of(kinds: tuple[Kind, ...], chosen: Callable[[Kind], bool]) -> slice:
    """Where the agents of the kinds chosen stand among all; they follow each other."""
    places = [is_chosen for kind in kinds for is_chosen in [chosen(kind)] * kind.n_agents]
    return slice(places.index(True), places.index(True) + sum(places)) if any(places) else slice(0)
