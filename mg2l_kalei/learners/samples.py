"""A rollout cut into chunks of consecutive steps, as policy-gradient learners look at it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor

from mg2l_kalei.networks import Memory
from mg2l_kalei.processes import ALONE, Processes


class Memories(NamedTuple):
    """What recurrent networks remembered before each step of a rollout."""

    start: Tensor  # (T, B) bool   steps before which everything was forgotten
    actor: Tensor  # (T, B, N, hidden)
    critic: Tensor  # (T, B, networks, hidden)


class Samples(NamedTuple):
    """What the losses look at: S chunks of L consecutive steps of a rollout, or a minibatch of them.

    Feed-forward networks look at single steps: L = 1.
    """

    obs: Tensor  # (L, S, N, obs_dim)
    legal: Tensor | None  # (L, S, N, n_actions)
    local_latent: Tensor  # (L, S, N, local_dim)   that was acted on
    action: Tensor  # (L, S, N, action_dim) or (L, S, N)
    log_prob: Tensor  # (L, S, N)   when acting
    alive: Tensor | None  # (L, S, N)   None: all are
    state: Tensor  # (L, S, state_dim)   or what else the critic judges by, (L, S, N, obs_dim)
    global_latent: Tensor  # (L, S, global_dim)   the critic's
    advantage: Tensor  # (L, S, N)   normalised
    returns: Tensor  # (L, S, N)   normalised as the critic's outputs
    old_value: Tensor  # (L, S, N)   likewise
    start: Tensor | None = None  # (L, S)   before which everything is forgotten; None: feed-forward, as below
    actor_state: Tensor | None = None  # (1, S, N, hidden)   before the chunk
    critic_state: Tensor | None = None  # (1, S, networks, hidden)

    def take(self, index: Tensor) -> Samples:
        """The samples at index (s,)."""
        return Samples._make(None if x is None else x[:, index] for x in self)

    def split(self, n: int) -> Iterator[Samples]:
        """The samples in n parts as equal as can be, in their order."""
        n = min(n, self.obs.shape[1])
        return map(Samples, *(repeat(None) if x is None else x.tensor_split(n, dim=1) for x in self))

    @property
    def chunk_length(self) -> int:
        """L."""
        return len(self.obs)

    @property
    def actor_memory(self) -> Memory | None:
        """Where the actors' sequences begin."""
        return None if self.actor_state is None else Memory(self.actor_state[0], self.start)

    @property
    def critic_memory(self) -> Memory | None:
        """Where the critic's sequences begin."""
        return None if self.critic_state is None else Memory(self.critic_state[0], self.start)


def cut(steps: Samples, memories: Memories | None, length: int, processes: Processes = ALONE) -> Samples:
    """Chunks of ``length`` steps of a rollout's steps (T, B, ...). ``steps.alive`` (T, B, N) must not be None."""
    assert steps.alive is not None
    samples = Samples._make(None if x is None else in_chunks(x, length) for x in steps)
    samples = samples._replace(alive=counting(steps.alive, length, processes))
    if memories is None:
        return samples
    return samples._replace(
        start=in_chunks(memories.start, length),
        actor_state=memories.actor[::length].flatten(0, 1)[None],
        critic_state=memories.critic[::length].flatten(0, 1)[None],
    )


def in_chunks(x: Tensor, length: int) -> Tensor:
    """(T, B, ...) -> (L, S, ...), S = ceil(T / L) B; what the last chunks lack repeats the last step."""
    n_chunks = -(-len(x) // length)
    if n_chunks * length > len(x):
        x = x[torch.arange(n_chunks * length, device=x.device).clamp(max=len(x) - 1)]
    return x.unflatten(0, (n_chunks, length)).transpose(0, 1).flatten(1, 2)


def counting(alive: Tensor, length: int, processes: Processes = ALONE) -> Tensor | None:
    """Of alive (T, B, N), which samples (L, S, N) count: of agents that acted, and no repeated steps.

    None: all, in all processes.
    """
    lacking = -len(alive) % length
    if not lacking and not processes.any(not alive.all()):
        return None
    counts = in_chunks(alive, length).clone()
    counts[length - lacking :, -alive.shape[1] :] = False
    return counts


def acted(alive: Tensor) -> Tensor | slice:
    """Index of the steps and agents that acted: alive (T, B, N) bool, or all of them where nobody had left."""
    return slice(None) if alive.all() else alive
