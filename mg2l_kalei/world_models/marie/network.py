"""MARIE's dynamics: each agent's own causal transformer over blocks [observation, action, what all agents do]."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mg2l_kalei.world_models.marie.aggregator import Aggregator
from mg2l_kalei.world_models.marie.attention import Transformer, embedding, linear
from mg2l_kalei.world_models.marie.config import MarieConfig

LEGAL_WIDTH = 256  # of the head that says which actions are legal


class Sizes(NamedTuple):
    """What the dynamics are built for."""

    n_agents: int
    n_tokens: int  # of an observation, K
    n_codes: int  # that each of them is one of, V
    n_action_tokens: int  # A
    n_action_codes: int
    n_legal: int  # actions that may be illegal; 0: of continuous ones there are none
    latent_dim: int  # 0: no task is told

    @property
    def block(self) -> int:
        """Places in a block, S."""
        return self.n_tokens + self.n_action_tokens + 1


class Blocks(NamedTuple):
    """L steps of B rows as tokens."""

    obs: Tensor  # (L, B, N, K) int64
    action: Tensor  # (L, B, N, A) int64
    alive: Tensor  # (L, B, N) bool   entries of others mean nothing
    episode: Tensor  # (L, B) int64   blocks with different numbers do not look at each other
    latent: Tensor  # (B, latent_dim)


class Outcome(NamedTuple):
    """What heads say at the aggregated token, of what the step leads to."""

    reward: Tensor  # (..., N) or (..., N, bins)
    goes_on: Tensor  # (..., N)   logits of the task going on for the agent
    alive: Tensor  # (..., N)   logits of its staying
    legal: Tensor | None  # (..., N, n_actions, 2)   logits of its next actions being illegal, and legal


class Dynamics(nn.Module):
    """Tokens of all agents in, tokens that follow and outcomes out. Agents share all weights."""

    def __init__(self, sizes: Sizes, config: MarieConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.sizes, self.config = sizes, config
        width, n_blocks = config.width, config.context_steps
        self.obs = embedding(sizes.n_codes, width, generator)
        self.action = embedding(sizes.n_action_codes, width, generator)
        self.position = embedding(n_blocks if config.slot_codes else n_blocks * sizes.block, width, generator)
        self.slot = embedding(sizes.block, width, generator) if config.slot_codes else None
        self.latent = linear(sizes.latent_dim, width, generator) if sizes.latent_dim else None
        self.aggregator = Aggregator(sizes.n_agents, config, generator) if config.aggregation else None
        self.transformer = Transformer(width, config.n_layers, config.n_heads, config.dropout, generator)
        n_reward = config.reward_bins if config.reward_head == "hl_gauss" else 1
        self.heads = nn.ModuleDict(
            {
                "obs": head((width, width, sizes.n_codes), generator),
                "reward": head((width, width, width, n_reward), generator),
                "goes_on": head((width, width, width, 1), generator),
                "alive": head((width, width, width, 1), generator),
            }
        )
        if sizes.n_legal:
            self.heads["legal"] = head((width, LEGAL_WIDTH, LEGAL_WIDTH, 2 * sizes.n_legal), generator)

    def forward(self, blocks: Blocks, generator: torch.Generator | None = None) -> Tensor:
        """What the transformer makes of every place: (L, B, N, S, width). ``generator``: of dropout, in training."""
        x = self.embedded(blocks)
        L, _, N, S, _ = x.shape
        out = self.transformer(rows(x), mask(blocks.episode, N, S), generator)
        return out.unflatten(1, (L, S)).unflatten(0, (-1, N)).movedim(2, 0)

    def embedded(self, blocks: Blocks, first: int = 0) -> Tensor:
        """What stands at every place, of blocks from number ``first`` on: (L, B, N, S, width)."""
        tokens = torch.cat([self.obs(blocks.obs), self.action(blocks.action)], dim=-2)  # (L, B, N, K + A, width)
        task = self._task(blocks.latent)  # (B, 1, 1, width)
        together = self._aggregated(tokens + task, blocks.alive).unsqueeze(-2)
        x = torch.cat([tokens, together], dim=-2) + task
        return x + self.positions(first, len(x))[:, None, None]

    def embedded_obs(self, obs: Tensor, latent: Tensor, block: int, slot: int) -> Tensor:
        """What stands at one place of block ``block``, an observation's token (B, N): (B, N, width)."""
        return self.obs(obs) + self._task(latent)[:, 0] + self.positions(block, 1)[0, slot]

    def positions(self, first: int, n_blocks: int) -> Tensor:
        """Codes of the places of blocks: (n_blocks, S, width)."""
        S = self.sizes.block
        if self.slot is None:
            return self.position.weight[first * S : (first + n_blocks) * S].unflatten(0, (-1, S))
        return self.position.weight[first : first + n_blocks].unsqueeze(1) + self.slot.weight

    def next_token(self, x: Tensor) -> Tensor:
        """At observation tokens but the last, and at the aggregated one: logits of the token after it, (..., V)."""
        logits: Tensor = self.heads["obs"](x)
        return logits

    def outcome(self, x: Tensor) -> Outcome:
        """At aggregated tokens (..., N, width)."""
        reward = self.heads["reward"](x)
        return Outcome(
            reward=reward if self.config.reward_head == "hl_gauss" else reward.squeeze(-1),
            goes_on=self.heads["goes_on"](x).squeeze(-1),
            alive=self.heads["alive"](x).squeeze(-1),
            legal=self.heads["legal"](x).unflatten(-1, (-1, 2)) if "legal" in self.heads else None,
        )

    def _task(self, latent: Tensor) -> Tensor:
        """(B, 1, 1, width)."""
        if self.latent is None:
            return latent.new_zeros(len(latent), 1, 1, self.config.width)
        task: Tensor = self.latent(latent)
        return task[:, None, None]

    def _aggregated(self, tokens: Tensor, alive: Tensor) -> Tensor:
        """(L, B, N, K + A, width), alive (L, B, N) -> (L, B, N, width); without aggregation 0."""
        if self.aggregator is None:
            return tokens.new_zeros(*tokens.shape[:3], tokens.shape[-1])
        if self.slot is not None:
            tokens = tokens + self.slot.weight[:-1]
        together: Tensor = self.aggregator(tokens.flatten(0, 1), alive.flatten(0, 1))
        return together.unflatten(0, alive.shape[:2])


def rows(x: Tensor) -> Tensor:
    """Each agent's sequence a row: (L, B, N, S, width) -> (B N, L S, width)."""
    return x.movedim(0, 2).flatten(0, 1).flatten(1, 2)


def mask(episode: Tensor, n_agents: int, block: int) -> Tensor:
    """Who may look at whom: what stands before it in the same episode; (L, B) -> (B N or 1, 1, L S, L S) bool."""
    place = episode.T.repeat_interleave(block, dim=1)  # (B, L S)
    return looks_back(place, place.shape[1], n_agents)


def looks_back(place: Tensor, n_last: int, n_agents: int) -> Tensor:
    """The same of places (B, M), whose numbers are of their episodes, for the last ones: (B N or 1, 1, n_last, M)."""
    causal = torch.ones(n_last, place.shape[1], dtype=torch.bool, device=place.device)
    causal = causal.tril(place.shape[1] - n_last)
    if bool((place == place[:, :1]).all()):
        return causal[None, None]
    together = place[:, -n_last:, None] == place[:, None, :]
    return (causal & together).repeat_interleave(n_agents, dim=0).unsqueeze(1)


def head(sizes: tuple[int, ...], generator: torch.Generator) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for in_size, out_size in pairwise(sizes):
        layers += [linear(in_size, out_size, generator), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
