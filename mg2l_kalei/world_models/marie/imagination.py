"""Rows that MARIE's dynamics imagine, token by token; what stands before is remembered, not computed anew."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from envs.core import EnvSpec, Observation, StepResult
from mg2l_kalei.buffers.windows import joint_state
from mg2l_kalei.world_models.base import Starts
from mg2l_kalei.world_models.marie.attention import Memory
from mg2l_kalei.world_models.marie.network import Blocks, Outcome, looks_back, mask, rows
from mg2l_kalei.world_models.marie.team import MarieNetwork


class Past(NamedTuple):
    """Blocks that are over, M of them."""

    obs: Tensor  # (M, B, N, K) int64
    action: Tensor  # (M, B, N, A) int64
    alive: Tensor  # (M, B, N) bool
    is_known: Tensor  # (M, B) bool   of the row's episode


class TokenDream:
    """Tokens of B rows: what is over, and the observation of now. ``advance`` by an action, then ``observe``."""

    def __init__(self, network: MarieNetwork, latent: Tensor, past: Past, obs: Tensor, alive: Tensor) -> None:
        self.network, self.latent = network, latent
        self.begin(past, obs, alive)

    def begin(self, past: Past, obs: Tensor, alive: Tensor) -> None:
        """Read what is over anew; ``obs`` (B, N, K), alive (B, N): of now."""
        dynamics = self.network.dynamics
        self.past, self.obs, self.alive = past, obs, alive
        S, N, M = dynamics.sizes.block, dynamics.sizes.n_agents, len(past.obs)
        room = dynamics.config.context_steps * S
        like = dynamics.obs.weight
        self._memories: list[Memory] = []  # what was held makes room
        self._memories = dynamics.transformer.memories(len(alive) * N, room, like)
        if M:
            blocks = Blocks(past.obs, past.action, past.alive, past.is_known.long(), self.latent)
            x = rows(dynamics.embedded(blocks))
            out = dynamics.transformer.go_on(x, mask(blocks.episode, N, S), self._memories)
            self._last = out[:, -1].unflatten(0, (-1, N))  # (B, N, width)   of the last place that is over
        self._place = past.is_known.long().T.repeat_interleave(S, dim=1)  # (B, M S)   1: of this episode
        waiting = [self._embedded(obs[..., k], k) for k in range(obs.shape[-1])]
        self._waiting = torch.stack(waiting, dim=-2)  # (B, N, *, width)   read with what comes next

    def advance(self, action: Tensor) -> tuple[Outcome, Tensor]:
        """What action tokens (B, N, A) lead to: the outcome, and logits of the next observation's first token."""
        dynamics = self.network.dynamics
        M, K = len(self.past.obs), dynamics.sizes.n_tokens
        now = torch.ones_like(self.alive[:, 0])
        blocks = Blocks(self.obs[None], action[None], self.alive[None], now.long()[None], self.latent)
        block = dynamics.embedded(blocks, M)[0]  # (B, N, S, width)
        out = self._read(torch.cat([self._waiting, block[..., K:, :]], dim=-2))[..., -1, :]
        was = (self.obs, action, self.alive, now)
        self.past = Past._make(torch.cat([x, y[None]]) for x, y in zip(self.past, was, strict=True))
        return dynamics.outcome(out), dynamics.next_token(out)

    def observe(self, logits: Tensor, alive: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the observation that follows, its first token by ``logits`` (B, N, V): (B, N, K)."""
        dynamics, tokens = self.network.dynamics, []
        if len(self.past.obs) == dynamics.config.context_steps:  # no place is left: the older half is forgotten
            kept = Past._make(x[-(dynamics.config.context_steps // 2) :] for x in self.past)
            self.begin(kept, self.obs, alive)
            logits = dynamics.next_token(self._last)  # after a sequence's last block none is ever learned
        for k in range(dynamics.sizes.n_tokens):
            tokens.append(drawn(logits, dynamics.config.temperature, generator))
            self._waiting = self._embedded(tokens[-1], k).unsqueeze(-2)
            if k < dynamics.sizes.n_tokens - 1:
                logits = dynamics.next_token(self._read(self._waiting)[..., -1, :])
        self.obs, self.alive = torch.stack(tokens, dim=-1), alive
        return self.obs

    def _embedded(self, tokens: Tensor, slot: int) -> Tensor:
        return self.network.dynamics.embedded_obs(tokens, self.latent, len(self.past.obs), slot)

    def _read(self, x: Tensor) -> Tensor:
        """Places x (B, N, s, width), which follow those that were read -> (B, N, s, width)."""
        N, s = x.shape[1:3]
        self._place = torch.cat([self._place, self._place.new_ones(len(x), s)], dim=1)
        read = self.network.dynamics.transformer.go_on(x.flatten(0, 1), looks_back(self._place, s, N), self._memories)
        return read.unflatten(0, (-1, N))


class DreamedRows:
    """See ``ImaginedBatch``. Observations are drawn, ends by the chance that living agents predict in the mean.

    An agent is there, and an action is legal, where that is likelier than not. Observations of the first step are the
    real ones; later ones are decoded tokens.
    """

    spread = None
    dream: TokenDream

    def __init__(
        self, network: MarieNetwork, starts: Starts, latent: Tensor, generator: torch.Generator, spec: EnvSpec
    ) -> None:
        self.network, self.starts, self.generator = network, starts, generator
        self.latent = latent if network.dynamics.sizes.latent_dim else latent[:, :0]
        self.horizon, self.has_ends = network.config.imagined_steps, not spec.ends_on_time
        self.spec = spec._replace(episode_steps=self.horizon)

    @torch.no_grad()
    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        """Rows back to their starts."""
        network, seen, history = self.network, self.starts.seen, self.starts.history
        past = Past(
            network.tokens(history.obs), network.action_tokens(history.action), history.alive, self.starts.is_known
        )
        obs = network.tokens(seen.obs)
        if where is None:
            if hasattr(self, "dream"):  # its memory is not to be there twice
                self.dream.begin(past, obs, seen.alive)
            else:
                self.dream = TokenDream(network, self.latent, past, obs, seen.alive)
            self._elapsed = torch.zeros_like(tasks)
            self._shown = seen
        else:
            now, n = self.dream, min(len(past.obs), len(self.dream.past.obs))
            longer = self._padded(past, len(now.past.obs), n)
            mixed = Past._make(_chosen(where, new, old, 1) for new, old in zip(longer, now.past, strict=True))
            now.begin(mixed, _chosen(where, obs, now.obs, 0), _chosen(where, seen.alive, now.alive, 0))
            self._elapsed = torch.where(where, 0, self._elapsed)
            pairs = zip(seen, self._shown, strict=True)
            self._shown = Observation._make(
                None if x is None or y is None else _chosen(where, x, y, 0) for x, y in pairs
            )
        return Observation._make(None if x is None else x.clone() for x in self._shown)

    @torch.no_grad()
    def step(self, action: Tensor) -> StepResult:
        network, alive = self.network, self.dream.alive
        outcome, logits = self.dream.advance(network.action_tokens(action))
        next_alive = alive & (outcome.alive > 0)
        tokens = self.dream.observe(logits, next_alive, self.generator)
        obs = network.observations(tokens)
        terminated = self._ends(outcome.goes_on, alive)
        self._elapsed = self._elapsed + 1
        truncated = (self._elapsed >= self.horizon) & ~terminated
        legal = None if outcome.legal is None else _legal(outcome.legal)
        reward = torch.where(alive, network.reward(outcome.reward), 0.0)
        if self.spec.shared_reward:
            reward = (reward.sum(-1, keepdim=True) / alive.sum(-1, keepdim=True).clamp(min=1)).expand_as(reward)
        self._shown = Observation(obs, joint_state(obs, next_alive), legal, next_alive)
        return StepResult(*self._shown[:2], reward, terminated, truncated, legal, next_alive)

    def scene(self, row: int) -> None:
        """Observations cannot be drawn."""

    def _ends(self, goes_on: Tensor, alive: Tensor) -> Tensor:
        """Drawn from logits (B, N) of the task going on, their mean over living agents: (B,) bool."""
        if not self.has_ends:
            return torch.zeros_like(alive[:, 0])
        mean = torch.where(alive, goes_on, 0.0).sum(-1) / alive.sum(-1).clamp(min=1)
        return torch.rand(mean.shape, generator=self.generator, device=mean.device) > torch.sigmoid(mean)

    def _padded(self, past: Past, n_blocks: int, n: int) -> Past:
        """The last n blocks, after so many unknown ones that there are ``n_blocks``."""
        return Past._make(torch.cat([x.new_zeros(n_blocks - n, *x.shape[1:]), x[len(x) - n :]]) for x in past)


def drawn(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """One of logits (..., V): (...) int64; of temperature 0 the likeliest."""
    if not temperature:
        return logits.argmax(-1)
    chances = (logits / temperature).softmax(-1)
    return torch.multinomial(chances.flatten(0, -2), 1, generator=generator).view(logits.shape[:-1])


def _chosen(where: Tensor, new: Tensor, old: Tensor, axis: int) -> Tensor:
    """Rows of ``new`` where ``where`` (B,) is True, else of ``old``; B is their axis ``axis``."""
    shape = [1] * new.dim()
    shape[axis] = -1
    return torch.where(where.view(shape), new, old)


def _legal(logits: Tensor) -> Tensor:
    """Actions (B, N, n_actions, 2) that are likelier legal than not, and the likeliest: (B, N, n_actions) bool."""
    more = logits[..., 1] - logits[..., 0]
    return (more > 0) | (more == more.amax(-1, keepdim=True))
