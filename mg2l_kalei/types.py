"""Records shared by all layers. Axis order: T time, B environment rows, N agents, features last."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

Metrics = dict[str, "Tensor | float"]  # path ("train/approx_kl") to a scalar
State = dict[str, Any]  # of a state_dict: tensors, numbers, strings, None, and lists and string-keyed dicts of them


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


class Contexts(NamedTuple):
    """Sets of transitions to infer a task from. All agents' rows of one entry were made in the same step."""

    transition: Transition  # (T, B, N, ...)   T transitions in each of B contexts, order without meaning
    task: Tensor  # (B,) int64   known in meta-training only


class Acting(NamedTuple):
    """On-policy extras of a rollout."""

    log_prob: Tensor  # (T, B, N)
    recurrent_state: Tensor | None  # (T, B, N, hidden)   that each action was made with; None: feed-forward


class ActionSample(NamedTuple):
    action: Tensor  # (B, N, action_dim) float, or (B, N) int64
    log_prob: Tensor  # (B, N)
    recurrent_state: Tensor | None  # (B, N, hidden)


class Rollout(NamedTuple):
    """Exactly one trial in every row: one task, one belief, one or several episodes."""

    obs: Tensor  # (T, B, N, obs_dim)
    next_obs: Tensor  # (T, B, N, obs_dim)   the true successor, before any restart
    state: Tensor  # (T, B, state_dim)   centralised, training only
    next_state: Tensor  # (T, B, state_dim)
    action: Tensor  # (T, B, N, action_dim) float, or (T, B, N) int64
    legal: Tensor | None  # (T, B, N, n_actions) bool
    next_legal: Tensor | None  # (T, B, N, n_actions) bool
    reward: Tensor  # (T, B, N)
    terminated: Tensor  # (T, B) bool   the task ended: no bootstrap
    truncated: Tensor  # (T, B) bool   time ran out: bootstrap from next_*
    episode_start: Tensor  # (T, B) bool
    alive: Tensor  # (T, B, N) bool   who acts
    task: Tensor  # (B,) int64   constant in a trial
    latent: Tensor  # (T, B, N, local_dim)   local ones, that were acted on
    acting: Acting | None
    contexts: Contexts | None = None  # (K, B, N, ...)   that `latent` was inferred from; None: from the trial itself
    next_alive: Tensor | None = None  # (T, B, N) bool   after the step, before any restart; None: nobody leaves

    @property
    def transition(self) -> Transition:
        """The agents' transitions, (T, B, N, ...)."""
        return Transition(self.obs, self.action, self.reward, self.next_obs)
