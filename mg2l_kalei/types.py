"""Records shared by all layers. Axis order: T time, B environment rows, N agents, features last."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from torch import Tensor

Metrics = dict[str, "Tensor | float"]  # path ("train/approx_kl") to a scalar
State = dict[str, Any]  # of a state_dict: tensors, numbers, strings, None, and lists and string-keyed dicts of them


class Clock(NamedTuple):
    """How far a run is. Schedules are functions of it, and nobody keeps a copy."""

    iteration: int  # 0, 1, ...
    env_steps: int  # made so far, by training and exploration together
    total_env_steps: float = math.inf  # of the whole run; infinite: without end
    explores: bool = True  # False: whoever acts by it draws from the policy alone


class TaskLatent(NamedTuple):
    """Task representations. Row n of ``local`` comes from agent n's own transitions alone."""

    global_: Tensor  # (..., B, global_dim)   critic input
    local: Tensor  # (..., B, N, local_dim)   actor input


class Transition(NamedTuple):
    """What each agent lives through in a step, and all that task inference may look at."""

    obs: Tensor  # (..., B, N, obs_dim)
    action: Tensor  # (..., B, N, action_dim) float, or (..., B, N) int64
    reward: Tensor  # (..., B, N)
    next_obs: Tensor  # (..., B, N, obs_dim)   the true successor, before any restart
    episode_start: Tensor  # (..., B) bool   nothing is known of a step before this one
    alive: Tensor  # (..., B, N) bool   who lived through it; entries of others mean nothing


class Step(NamedTuple):
    """One step of all rows; or, with a leading axis T, the steps of a trial. The one list of what is recorded."""

    obs: Tensor  # (..., B, N, obs_dim)
    next_obs: Tensor  # (..., B, N, obs_dim)   the true successor, before any restart
    state: Tensor  # (..., B, state_dim)   centralised, training only
    next_state: Tensor  # (..., B, state_dim)
    action: Tensor  # (..., B, N, action_dim) float, or (..., B, N) int64
    legal: Tensor | None  # (..., B, N, n_actions) bool; None: every action is legal, or actions are continuous
    next_legal: Tensor | None  # (..., B, N, n_actions) bool
    reward: Tensor  # (..., B, N)
    terminated: Tensor  # (..., B) bool   the task ended: no bootstrap
    truncated: Tensor  # (..., B) bool   time ran out: bootstrap from next_*
    episode_start: Tensor  # (..., B) bool
    alive: Tensor  # (..., B, N) bool   who acts; entries of others mean nothing
    next_alive: Tensor  # (..., B, N) bool   after the step, before any restart

    @property
    def transition(self) -> Transition:
        """What the agents lived through."""
        return Transition._make(getattr(self, name) for name in Transition._fields)

    @property
    def ends(self) -> Tensor:
        """Whether an episode ends with the step, in whichever way: (..., B) bool."""
        return self.terminated | self.truncated

    @property
    def won(self) -> Tensor:
        """Whether an episode is won with the step, of families that ``can_be_won``: (..., B) bool."""
        return self.terminated & self.next_alive.any(-1)


class Contexts(NamedTuple):
    """Sets of transitions to infer a task from. All agents' rows of one entry were made in the same step."""

    transition: Transition  # (T, B, N, ...)   T transitions in each of B contexts; in order where context.order=trial
    task: Tensor  # (B,) int64   known in meta-training only


class ActionSample(NamedTuple):
    """What a policy does in all rows."""

    action: Tensor  # (B, N, action_dim) float, or (B, N) int64
    log_prob: Tensor | None = None  # (B, N)   of on-policy learners, where they explore
    memory: Tensor | None = None  # (B, N, hidden)   of recurrent policies, after this step


class Rollout(NamedTuple):
    """Exactly one trial in every row: one task, one belief, one or several episodes."""

    steps: Step  # (T, B, ...)
    task: Tensor  # (B,) int64   constant in a trial
    latent: Tensor  # (T, B, N, local_dim)   local ones, that were acted on
    log_prob: Tensor | None = None  # (T, B, N)   of the actions; None: nobody will ask
    memory: Tensor | None = None  # (T, B, N, hidden)   that each action was made with; None: feed-forward
    contexts: Contexts | None = None  # (K, B, N, ...)   that `latent` was inferred from; None: from the trial itself
    told: TaskLatent | None = None  # (T + 1, B, ...)   where more than the rollout told latents; None: it did

    @property
    def transition(self) -> Transition:
        """The agents' transitions, (T, B, N, ...)."""
        return self.steps.transition
