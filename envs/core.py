"""Records and interfaces of task families and batched environments.

Axis order everywhere: T time, B environment rows, N agents, features last. One row plays one task.
This package knows nothing of ``mg2l_kalei``.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from envs.images import Images
from envs.settings import Refusal as Refusal  # and the others: families find here all that they need
from envs.settings import is_in_range as is_in_range
from envs.settings import setting as setting

MAX_TASKS = 10_000
MAX_FEATURES = 1_000_000  # over all tasks of a family
SPLITS = ("train", "test", "ood")  # trained on; held out inside the same range; outside of it


def refuse_many_tasks(settings: str, n_tasks: int, n_features: int = 1) -> None:
    """Raises ValueError where ``settings``, as they would be written, ask for more tasks than can be made.

    n_features: of each task.
    """
    if n_tasks > MAX_TASKS:
        count = str(n_tasks) if n_tasks < 10**15 else f"about 10^{math.log10(n_tasks):.0f}"
        raise Refusal(f"{settings}: these are {count} tasks, and {MAX_TASKS} at most can be made")
    if n_tasks * n_features > MAX_FEATURES:
        raise Refusal(
            f"{settings}: {n_tasks} tasks of {n_features} features each are {n_tasks * n_features} numbers, and "
            f"{MAX_FEATURES} at most can be held"
        )


class EnvFailure(RuntimeError):
    """An environment raised, died or hung; the message names family, task and seed."""


class Interruption(BaseException):
    """What a signal's handler raises, to leave whatever goes on. No EnvFailure is made of it, as of all that
    environments raise themselves. Other classes say that they are one too by ``is_interruption``.
    """

    is_interruption = True


class CannotDraw(Refusal):
    """This machine lacks what scenes are drawn with; the message says in one line what that is."""


def one_line(text: object) -> str:
    """A stranger's text as a terminal may be given it: in one line, what cannot be printed escaped."""
    words = " ".join(str(text).split())
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in words)


class Task(NamedTuple):
    """One task of a family. ``features`` is a normalised vector of what is hidden; only the oracle is given it."""

    name: str
    params: Mapping[str, Any]  # what JSON can hold
    features: tuple[float, ...]
    split: str = "train"


class EnvSpec(NamedTuple):
    """Facts about a family's environments, the same for all of its tasks."""

    n_agents: int
    obs_dim: int
    state_dim: int
    action_dim: int  # continuous: width of the vector; discrete: number of actions
    is_discrete: bool
    episode_steps: int  # time limit of one episode, in environment steps
    obs_sizes: tuple[int, ...] = ()  # true width per agent where padded; empty: all obs_dim
    action_sizes: tuple[int, ...] = ()  # true width (or number of actions) per agent; empty: all action_dim
    agent_types: tuple[int, ...] = ()  # same number, same kind of agent; empty: all alike
    type_columns: tuple[int, ...] = ()  # of obs, one-hot: an agent's type, if it is drawn, for a whole episode
    shared_reward: bool = False  # True: every agent is always paid the same, the team's reward
    ends_on_time: bool = False  # True: every episode lasts `episode_steps`; nobody need look at rows to know
    obs_images: Images | None = None  # that an observation consists of; None: it is a vector of float32
    state_images: Images | None = None  # likewise
    can_be_won: bool = False  # True: an episode is won that is terminated while any agent is alive

    @property
    def obs_dtype(self) -> torch.dtype:
        return torch.float32 if self.obs_images is None else self.obs_images.dtype

    @property
    def state_dtype(self) -> torch.dtype:
        return torch.float32 if self.state_images is None else self.state_images.dtype


class Observation(NamedTuple):
    """What a batch shows after a reset. Shapes as in ``StepResult``."""

    obs: Tensor
    state: Tensor
    legal: Tensor | None
    alive: Tensor


class StepResult(NamedTuple):
    """The step just made. No row has been restarted: ``obs`` is the true successor of a finished episode too."""

    obs: Tensor  # (B, N, obs_dim) float32, or ``spec.obs_dtype`` of images
    state: Tensor  # (B, state_dim) likewise, centralised: for training only
    reward: Tensor  # (B, N) float32
    terminated: Tensor  # (B,) bool: the task ended, nothing follows
    truncated: Tensor  # (B,) bool: time ran out; never together with terminated
    legal: Tensor | None  # (B, N, n_actions) bool; None: every action is legal, or actions are continuous
    alive: Tensor  # (B, N) bool: False for agents that have left


Rows = TypeVar("Rows", bound=NamedTuple)


def replace_rows(old: Rows, new: Rows, where: Tensor) -> Rows:
    """The record ``old``, its rows where ``where`` (B,) bool is True taken from ``new``; all fields are (B, ...)."""
    pairs = zip(old, new, strict=True)
    return old._make(torch.where(where.view(-1, *[1] * (o.dim() - 1)), n, o) for o, n in pairs)


def everyone_else(n: int, device: torch.device) -> Tensor:
    """Row i holds the numbers from 0 to n - 1 without i: (n, n - 1) int64."""
    return torch.arange(n, device=device).repeat(n, 1)[~torch.eye(n, dtype=torch.bool, device=device)].view(n, n - 1)


class Marker(NamedTuple):
    """Something to draw, in the family's own plane."""

    x: float
    y: float
    radius: float
    role: str  # "agent" (a learner), "prey", "opponent", "landmark"
    is_target: bool  # belongs to the hidden task


class Scene(NamedTuple):
    """A picture of one row, for rendering: markers inside the square [low, high] x [low, high]."""

    markers: tuple[Marker, ...]
    low: float
    high: float


Picture = npt.NDArray[np.uint8]  # (height, width, 3) RGB, the top row first


class EnvBatch(Protocol):
    """B rows stepped together; each row plays one task of its family.

    Tensors returned are fresh: later steps do not change them. All randomness comes from the generator given to
    ``TaskFamily.make``, and what a row draws does not depend on when others restart (see ``RowStreams``). Float32
    unless the family's ``make`` was told otherwise.
    """

    spec: EnvSpec

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        """Restart the rows where ``where`` (B,) bool is True (None: all; the first time it must be None).

        tasks (B,) int64: numbers in ``TaskFamily.tasks``; those of rows that are not restarted have no effect.
        """
        ...

    def step(self, action: Tensor) -> StepResult:
        """Act in every row: (B, N, action_dim) float in [-1, 1] (wider values are clamped), or (B, N) int64."""
        ...

    def scene(self, row: int) -> Scene | Picture | None:
        """What row ``row`` looks like now; None: this family cannot be drawn. Raises CannotDraw."""
        ...


class TaskFamily(ABC):
    """A distribution over tasks. Its tasks are drawn once, in the constructor, from the generator given to it.

    Registered constructors are called as ``Family(name, config, generator)``: the name it is registered under, the
    family's frozen config, and a ``numpy`` generator for drawing tasks (finite families need not use it).
    """

    version: ClassVar[int] = 1  # raised when the same parameters come to mean something else
    name: str
    spec: EnvSpec
    tasks: tuple[Task, ...]  # all splits; the place in here is the task's number everywhere
    agents: tuple[str, ...] = ()  # names, in the order of all axes N; empty: they have none, and always one order
    made_by: Mapping[str, str] = MappingProxyType({})  # what else decides what the tasks are
    true_groups: tuple[int, ...] = ()  # of each agent: those of one group should act alike; empty: nobody knows
    truncates_early: ClassVar[bool] = False  # whether time may run out before ``episode_steps``, in some tasks
    has_rivals: bool = False  # whether what pays one agent costs another, so that no one player can act for all
    random_play_tells: ClassVar[bool] = True  # False: tasks may differ in what random play meets too rarely to check

    def __init__(self, name: str, config: Any, generator: np.random.Generator) -> None:
        self.name = name

    @property
    def splits(self) -> dict[str, tuple[Task, ...]]:
        """The tasks by split, in ``SPLITS`` order; splits without tasks are left out."""
        by_split = {split: tuple(t for t in self.tasks if t.split == split) for split in SPLITS}
        return {split: tasks for split, tasks in by_split.items() if tasks}

    @property
    def seen_only(self) -> bool:
        """True for a finite family: there is nothing to hold out, so every table must say "seen tasks"."""
        return set(self.splits) == {"train"}

    def task_ids(self, split: str) -> Tensor:
        """Numbers of the tasks of a split: (n,) int64. Raises KeyError naming the splits there are."""
        if split not in self.splits:
            raise KeyError(f"{self.name} has no split {split!r}; it has: {', '.join(self.splits)}")
        return torch.tensor([i for i, t in enumerate(self.tasks) if t.split == split])

    def features(self) -> Tensor:
        """What the oracle is given, for every task: (n_tasks, n_features) float32."""
        return torch.tensor([t.features for t in self.tasks], dtype=torch.float32)

    def fingerprint(self) -> str:
        """SHA-256 over family, version, every task's parameters and ``made_by``: equal fingerprints, equal tasks."""
        content: list[Any] = [self.name, self.version]
        content.append([[t.name, dict(t.params), t.features, t.split] for t in self.tasks])
        if self.made_by:
            content.append(dict(self.made_by))
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def ordered(self, agents: Sequence[str]) -> TaskFamily:
        """The family with its agents in this order, that of a trained run; as it is where these are other agents."""
        return self

    def drawn(self) -> TaskFamily:
        """The family whose batches have scenes, where those that are trained on save themselves the trouble."""
        return self

    def places(self, obs: Tensor) -> Tensor | None:
        """Where agents are in the plane of their scenes, (..., N, 2), by observations (..., N, obs_dim) alone.

        None: these do not tell. So what a world model imagines can be drawn.
        """
        return None

    @abstractmethod
    def make(self, n_rows: int, device: torch.device, generator: torch.Generator) -> EnvBatch:
        """A batch of ``n_rows`` rows on ``device``; ``generator`` (of that device) drives all its randomness."""
