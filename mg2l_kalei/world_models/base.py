"""The world model's interface: learned from replayed trials, and acted in like any environment.

A model predicts what agents observe, never states: where there is one, what critics and mixers are given as the state,
in real and in imagined trials alike, is what all agents observe together (see ``buffers.windows.jointly_observed``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from envs.core import EnvBatch, EnvSpec, Observation, setting
from mg2l_kalei.buffers.trials import TrialReplay
from mg2l_kalei.buffers.windows import OBSERVED, Moments, observed_trials, window
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.types import Clock, Metrics, Rollout, State, Step


@dataclass(frozen=True)
class NoModelConfig:
    pass


@dataclass(frozen=True)
class ImaginationConfig:
    """What every kind of model is used by; kinds add settings of their own, and defaults."""

    first_trials: int = setting(64, "real trials before the model begins to learn, and agents in it", low=1)
    model_updates: float = setting(0.1, "updates of the model for each real environment step", above=0)
    imagined_rollouts: int = setting(5, "imagined rollouts that the learner learns from in an iteration", low=0)
    imagined_rows: int = setting(256, "rows of an imagined rollout", low=1)
    imagined_steps: int = setting(15, "steps of an imagined rollout, whose end is a time limit", low=1)
    burn_in: int = setting(1, "real steps that the model sees before it begins to imagine", low=0)
    real_rollouts: bool = setting(True, "let the learner learn from real rollouts too")
    score_interval: int = setting(10, "iterations between measurements of the model's errors", low=1, extends=True)

    def __post_init__(self) -> None:
        if not (self.real_rollouts or self.imagined_rollouts):
            raise ValueError("real_rollouts=false with imagined_rollouts=0: the learner learns from nothing")


class Surroundings(NamedTuple):
    """What a model is built from, beside its own config."""

    spec: EnvSpec  # of the environments, see ``jointly_observed``
    latent_dim: int  # width of the task latents that it is given
    generator: torch.Generator  # on the CPU, for initial weights


class Starts(NamedTuple):
    """Moments of real trials, in which B imagined rows begin."""

    history: Step  # (K, B, ...)   the K = ``burn_in`` steps before, the last one last
    is_known: Tensor  # (K, B) bool   steps of the same episode; entries of others mean nothing
    seen: Observation  # (B, ...)   what is seen at that moment
    task: Tensor  # (B,) int64
    episode_start: Tensor  # (B,) bool   whether an episode begins at that moment

    def of(self, rows: Tensor) -> Starts:
        """Those of some rows, by their numbers."""
        history = Step._make(None if x is None else x[:, rows] for x in self.history)
        seen = Observation._make(None if x is None else x[rows] for x in self.seen)
        return Starts(history, self.is_known[:, rows], seen, self.task[rows], self.episode_start[rows])


class ImaginedBatch(EnvBatch, Protocol):
    """B imagined rows. A ``reset`` puts rows back to their starts, whatever the tasks; all must be reset at first.

    Horizons end as truncations, and ends are sampled from the predicted continuation. Steps may go on past an end.
    ``spec`` is that of the real environments but for what says how episodes end.
    """

    @property
    def spread(self) -> Tensor | None:
        """How far off the model believes its last observation to be, in deviations: (B,); None: it cannot tell."""
        ...


class WorldModel(ABC):
    """Learns a team's dynamics, given the task's global latent, and imagines them.

    Constructors are called as ``Model(config, surroundings)``, with the model's frozen config, a kind of
    ``ImaginationConfig``. They fill ``network``, whose state is saved with the run's weights; ``state_dict`` is of all
    else that changes. All randomness is drawn from generators that are given.
    """

    replays: ClassVar[Sequence[str]] = OBSERVED  # fields of ``Step`` that are to be kept of past trials
    network: nn.Module

    def __init__(self, config: Any, surroundings: Surroundings) -> None:
        self.config, self.spec = config, surroundings.spec

    @classmethod
    def problems(cls, config: Any, spec: EnvSpec) -> Iterable[str]:
        """Why this model cannot learn environments like these, a line each."""
        return ()

    @abstractmethod
    def learn(
        self, replay: TrialReplay, encoder: TaskEncoder, clock: Clock, *, n_updates: int, generator: torch.Generator
    ) -> Metrics:
        """So many updates from trials of the replay; it is called after every rollout. Metrics under ``world_model/``.

        Task latents are inferred anew, see ``task_latents``.
        """

    @abstractmethod
    def imagine(self, starts: Starts, task_latents: Tensor, generator: torch.Generator) -> ImaginedBatch:
        """Rows that begin in ``starts``, of tasks (B, latent_dim), driven by ``generator``."""

    @property
    def remembered(self) -> float:
        """What rows that are imagined at once keep of what is over, at most [GiB]; 0: next to nothing."""
        return 0.0

    def to(self, device: torch.device) -> WorldModel:
        """Move the network; before the first update."""
        self.network.to(device)
        return self

    def weights(self) -> State:
        """All that imagining needs."""
        return dict(self.network.state_dict())

    def load_weights(self, state: State) -> None:
        """Take back what ``weights`` gave."""
        self.network.load_state_dict(state)

    @abstractmethod
    def state_dict(self) -> State:
        """What changes beside the weights, such as optimisers."""

    @abstractmethod
    def load_state_dict(self, state: State) -> None:
        """Take back what ``state_dict`` gave."""


def starts_at(replay: TrialReplay, moments: Moments, burn_in: int) -> Starts:
    """Where rows begin that continue the replay's trials from these moments on."""
    steps, is_known = window(replay, moments, before=burn_in, after=1)
    now = Step._make(None if x is None else x[-1] for x in steps)
    history = Step._make(None if x is None else x[:-1] for x in steps)
    seen = Observation(now.obs, now.state, now.legal, now.alive)
    return Starts(history, is_known[:-1], seen, replay.task[moments.trial], now.episode_start)


@torch.no_grad()
def task_latents(replay: TrialReplay, trial: Tensor, encoder: TaskEncoder) -> Tensor:
    """What the encoder says of the tasks of trials (P,), of which it sees all: (P, global_dim).

    The world is told all that is known of the task; what a team believes in it is another matter.
    """
    trial, which = trial.unique(return_inverse=True)
    steps = observed_trials(replay, trial)
    nothing = steps.reward.new_empty(*steps.reward.shape, 0)  # acted on by then: nobody asks
    return encoder.latents(Rollout(steps, replay.task[trial], nothing)).global_[-1][which]
