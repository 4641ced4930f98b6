"""What off-policy learners have in common: trials lived through again, with the latents that the encoder now infers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from envs.core import EnvSpec
from mg2l_kalei.buffers.sequences import draw_trials, whole_trials
from mg2l_kalei.buffers.trials import TrialReplay
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.learners.base import Experience, Learner, Setup
from mg2l_kalei.learners.optimiser import Optimiser, back_through
from mg2l_kalei.processes import ALONE, Processes
from mg2l_kalei.types import Metrics, Rollout, State, Step, TaskLatent

TRAINS_ENCODER = "the loss of values trains the encoder too, if it learns, by the global latents of replayed trials"
ROUNDING = 1e-6  # of an update, by which a sum of rates may fall short of a whole one


class ReplayLearner(Learner):
    """A learner from replayed trials, whose updates come at a rate that need not be whole."""

    is_on_policy = False
    replays = Step._fields

    def __init__(self, config: Any, setup: Setup) -> None:
        super().__init__(config, setup)
        self.owed = 0.0  # part of an update that its rate asks for and that is not made yet
        self.is_sound = True  # whether all that updates came to was finite so far

    def due(self, n_updates: float) -> int:
        """How many to make now, if so many more are asked for; what that is short of is owed."""
        self.owed += n_updates
        whole = int(self.owed + ROUNDING)
        self.owed -= whole
        return whole

    @classmethod
    def trains_encoder(cls, config: Any) -> bool:
        return bool(getattr(config, "trains_encoder", False))

    def of_encoder(self, encoder: TaskEncoder) -> list[nn.Parameter]:
        """What the loss of values trains of it."""
        return encoder.critic_parameters() if self.trains_encoder(self.config) else []

    def relive(self, experience: Experience, n_trials: int, generator: torch.Generator) -> Trials:
        """So many trials of the replay, drawn at random."""
        assert experience.replay is not None
        trial = draw_trials(experience.replay, n_trials, generator)
        is_lesson = self.trains_encoder(self.config)
        return relived(experience.replay, trial, experience.encoder, generator, is_lesson=is_lesson)

    def learned(self, batch: tuple[Any, ...], metrics: Metrics) -> Metrics:
        """The metrics of an update on a batch, which is kept to look at: the latest, or the first that spoilt one."""
        if self.is_sound:
            self.drawn = detached(batch)
            figures = [torch.as_tensor(value) for name, value in metrics.items() if name.startswith("train/")]
            self.is_sound = bool(torch.stack(figures).isfinite().all())
        return metrics

    def state_dict(self) -> State:
        return {**super().state_dict(), "owed": self.owed}

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        self.owed = state.get("owed", 0.0)


class Lesson(NamedTuple):
    """What values can teach the encoder about trials' global latents."""

    latent: Tensor  # (T + 1, B, global_dim)   as it has inferred them, with its gradient
    leaf: Tensor  # the same, of which values are learned, and where their gradients gather
    cost: Tensor  # ()   what it adds to each of their losses


class Trials(NamedTuple):
    """B replayed trials of T steps."""

    steps: Step  # (T, B, ...)
    latent: TaskLatent  # (T + 1, B, ...)   before each step and after the last, each agent's from its own steps alone
    lesson: Lesson | None = None  # whose leaf the global latents are; None: nothing is to be learned of them

    def teach(self, optimiser: Optimiser, n_losses: int) -> None:
        """A step of the encoder's layers, which ``optimiser`` has, on what so many losses want of the leaf."""
        if self.lesson is not None:
            loss, gradient = back_through(self.lesson.latent, self.lesson.leaf.grad, n_losses * self.lesson.cost)
            optimiser.step(loss, gradient=gradient)


def relived(
    replay: TrialReplay, trial: Tensor, encoder: TaskEncoder, generator: torch.Generator, *, is_lesson: bool = False
) -> Trials:
    """Trials (B,) of the replay, and what their teams would believe in each step, were they to live through them now.

    Latents have no gradient, but for a leaf of the global ones where they are a lesson. The encoder passes once over
    each step, whatever T is: pooled sums run on. Where a replay keeps latents, they are those, and are no lesson. Where
    a team acts on samples of posteriors, they are drawn anew.
    """
    steps, task = whole_trials(replay, trial)
    told = replay.told(trial)
    if told is not None:
        return Trials(steps, told)
    nothing = steps.reward.new_empty(*steps.reward.shape, 0)  # acted on by then: nobody asks
    lived = Rollout(steps, task, nothing)
    if not (is_lesson and encoder.learns):
        with torch.no_grad():
            return Trials(steps, encoder.latents(lived, sample=encoder.acts_on_samples, generator=generator))
    inferred, cost = encoder.learned_latents(lived, generator)
    leaf = inferred.global_.detach().requires_grad_()
    return Trials(steps, TaskLatent(leaf, inferred.local.detach()), Lesson(inferred.global_, leaf, cost))


def episodes_in(fresh: Rollout, episode_steps: int, processes: Processes = ALONE) -> float:
    """How many episodes begin in the fresh rollout, in all processes.

    Where rows begin in the midst of episodes: its steps, in episodes of as many as one has at most.
    """
    if fresh.told is not None:
        return fresh.steps.ends.numel() / episode_steps
    return float(processes.sum(fresh.steps.episode_start.sum()))


def of_team(seen: Step, spec: EnvSpec) -> Tensor:
    """The team's reward, (T, B): what all are paid alike, or the mean over all agents, of those who left 0."""
    total = torch.where(seen.alive, seen.reward, 0.0).sum(-1)
    return total / (seen.alive.sum(-1).clamp(min=1) if spec.shared_reward else spec.n_agents)


def detached(batch: tuple[Any, ...]) -> tuple[Any, ...]:
    """A batch, and batches within it, without what its tensors came from."""
    make = getattr(batch, "_make", tuple)
    parts = (detached(part) if isinstance(part, tuple) else part for part in batch)
    kept: tuple[Any, ...] = make(part.detach() if isinstance(part, Tensor) else part for part in parts)
    return kept


def averaged(steps: Sequence[Metrics]) -> Metrics:
    """The mean of each metric over the steps that have it."""
    names = {name: None for step in steps for name in step}  # in order
    values = {name: [torch.as_tensor(step[name]).detach() for step in steps if name in step] for name in names}
    return {name: torch.stack(of_steps).mean() for name, of_steps in values.items()}
