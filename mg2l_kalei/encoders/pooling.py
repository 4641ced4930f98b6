"""Aggregation of an agent's transition embeddings over time, streamed in constant time per step.

Every pooling maps embeddings (T, ..., *) to what is known at every prefix, (T + 1, ..., dim), the empty one first,
and does the same step by step through a state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

PoolState = Any  # a tuple of tensors (..., *)

MANY_STEPS = 300  # up to here a matrix product, of T² terms, is faster than ``cumsum``
LOGIT_BOUND = 10.0  # attention logits stay in (-10, 10), so that their exponentials can be summed as they come


class Pooling(nn.Module, ABC):
    """Over time, for any leading axes (rows, agents); ``dim`` out, and ``dim`` in where a pooling says nothing else."""

    @abstractmethod
    def initial(self, shape: tuple[int, ...]) -> PoolState:
        """The state before any embedding, for leading axes ``shape``."""

    @abstractmethod
    def add(self, state: PoolState, embedding: Tensor, alive: Tensor) -> PoolState:
        """The state after one more embedding (..., dim); where ``alive`` (...) is False there was none."""

    @abstractmethod
    def read(self, state: PoolState) -> Tensor:
        """What is known: (..., dim)."""

    @abstractmethod
    def prefixes(self, embeddings: Tensor, lengths: Tensor, alive: Tensor) -> Tensor:
        """(T, ..., dim), lengths (L,) int64 ascending in 0..T -> what is known after each length: (L, ..., dim).

        Where ``alive`` (T, ...) is False there was no embedding.
        """

    def step_by_step(self, embeddings: Tensor, lengths: Tensor, alive: Tensor) -> Tensor:
        """``prefixes`` by adding one embedding after the other: for poolings in which rows with gaps differ."""
        states = [self.initial(tuple(embeddings.shape[1:-1]))]
        for embedding, is_there in zip(embeddings, alive, strict=True):
            states.append(self.add(states[-1], embedding, is_there))
        return torch.stack([self.read(states[length]) for length in lengths.tolist()])


class AttentionPooling(Pooling):
    """MG2L's head: W_o sum_t softmax_t(w . e_t) W_v e_t, with one shared query per head, no positions.

    The weighted sum is a ratio of two running sums. A learned token that is in every context stands for the prior: it
    makes the empty context well defined, and lets the amount of evidence show in what is read.
    """

    def __init__(self, dim: int, n_heads: int, generator: torch.Generator) -> None:
        super().__init__()
        if dim % n_heads:
            raise ValueError(f"attention needs a width divisible by n_heads, got {dim} and {n_heads}")
        self.query, self.value, self.output = (linear(dim, out, generator) for out in (n_heads, dim, dim))
        self.token = nn.Parameter(torch.zeros(dim))
        self.n_heads = n_heads

    def initial(self, shape: tuple[int, ...]) -> PoolState:
        weight, value = self._terms(self.token.expand(*shape, -1))
        return value, weight

    def add(self, state: PoolState, embedding: Tensor, alive: Tensor) -> PoolState:
        weight, value = self._terms(embedding, alive)
        return state[0] + value, state[1] + weight

    def read(self, state: PoolState) -> Tensor:
        values, weights = state  # (..., H, dim / H), (..., H, 1)
        pooled: Tensor = self.output((values / weights).flatten(-2))
        return pooled

    def prefixes(self, embeddings: Tensor, lengths: Tensor, alive: Tensor) -> Tensor:
        weight, value = self._terms(embeddings, alive)  # (T, ..., H, *)
        return self._read_sums(sums_to(value, lengths), sums_to(weight, lengths))

    def pool(self, embeddings: Tensor) -> Tensor:
        """What a set says: (..., M, dim) -> (..., dim)."""
        weight, value = self._terms(embeddings)  # (..., M, H, *)
        return self._read_sums(value.sum(-3), weight.sum(-3))

    def _read_sums(self, values: Tensor, weights: Tensor) -> Tensor:
        """Sums over embeddings, (..., H, dim / H) and (..., H, 1), to what they say together with the token."""
        token_value, token_weight = self.initial(())
        return self.read((values + token_value, weights + token_weight))

    def _terms(self, embeddings: Tensor, alive: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Each embedding's weight (..., H, 1) and weighted value (..., H, dim / H); 0 where there is none."""
        logits = LOGIT_BOUND * torch.tanh(self.query(embeddings) / LOGIT_BOUND)
        weight = logits.exp().unsqueeze(-1)
        if alive is not None:
            weight = torch.where(alive[..., None, None], weight, 0.0)
        value = self.value(embeddings).unflatten(-1, (self.n_heads, -1))
        return weight, weight * value


class PoolingOfRoles(nn.Module):
    """A pooling over agents that are told apart: each one's x^i goes through a linear map of its own before."""

    def __init__(self, pooling: Any, n_agents: int, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.pooling = pooling
        maps = [linear(dim, dim, generator).weight.detach().T for _ in range(n_agents)]
        self.maps = nn.Parameter(torch.stack(maps))  # (N, dim, dim)

    def pool(self, x: Tensor) -> Tensor:
        """(..., N, dim) -> (..., dim)."""
        pooled: Tensor = self.pooling.pool((x.unsqueeze(-2) @ self.maps).squeeze(-2))
        return pooled


class WindowedAttentionPooling(Pooling):
    """Multi-head attention blocks over the last ``window`` embeddings, then the PIA head over their outputs.

    The state is the window itself: constant memory and time per step. Blocks have no positions.
    """

    def __init__(self, dim: int, n_heads: int, generator: torch.Generator, *, window: int, n_blocks: int) -> None:
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(AttentionBlock(dim, n_heads, generator) for _ in range(n_blocks))
        self.head = AttentionPooling(dim, n_heads, generator)

    def initial(self, shape: tuple[int, ...]) -> PoolState:
        token = self.head.token
        empty = torch.zeros(self.window, *shape, token.shape[-1], device=token.device)
        return empty, torch.zeros(self.window, *shape, dtype=torch.bool, device=token.device)

    def add(self, state: PoolState, embedding: Tensor, alive: Tensor) -> PoolState:
        embeddings, known = state
        shifted = torch.cat([embeddings[1:], embedding.unsqueeze(0)])
        newest = torch.cat([known[1:], torch.ones_like(known[:1])])
        return torch.where(alive.unsqueeze(-1), shifted, embeddings), torch.where(alive, newest, known)

    def read(self, state: PoolState) -> Tensor:
        x, known = state  # (W, ..., dim), (W, ...)
        for block in self.blocks:
            x = block(x, known)
        weight, value = self.head._terms(x)
        seen = known[..., None, None]
        return self.head._read_sums((value * seen).sum(0), (weight * seen).sum(0))

    def prefixes(self, embeddings: Tensor, lengths: Tensor, alive: Tensor) -> Tensor:
        empty, unknown = self.initial(tuple(embeddings.shape[1:-1]))
        if not alive.all():  # each row's window holds other steps
            return self.step_by_step(embeddings, lengths, alive)
        padded, known = torch.cat([empty, embeddings]), torch.cat([unknown, alive])  # (W + T, ..., *)
        steps = lengths + torch.arange(self.window, device=lengths.device).unsqueeze(-1)  # (W, L): a window per length
        return self.read((padded[steps], known[steps]))


class AttentionBlock(nn.Module):
    """Pre-norm self-attention and MLP over the first axis, with residual connections."""

    def __init__(self, dim: int, n_heads: int, generator: torch.Generator) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norms = nn.ModuleList([nn.LayerNorm(dim), nn.LayerNorm(dim)])
        self.qkv, self.output = linear(dim, 3 * dim, generator), linear(dim, dim, generator)
        self.mlp = nn.Sequential(linear(dim, 2 * dim, generator), nn.GELU(), linear(2 * dim, dim, generator))

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        """x (W, ..., dim), known (W, ...) bool: positions that hold something -> (W, ..., dim)."""
        tokens = x.movedim(0, -2)  # (..., W, dim)
        heads = self.qkv(self.norms[0](tokens)).unflatten(-1, (3, self.n_heads, -1))  # (..., W, 3, H, dim / H)
        query, key, value = heads.movedim(-3, 0).transpose(-2, -3)  # (..., H, W, dim / H) each
        is_key = known.movedim(0, -1)[..., None, None, :]
        is_key = is_key | ~is_key.any(-1, keepdim=True)  # an empty window attends to its zeros: its result is unused
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=is_key)
        tokens = tokens + self.output(attended.transpose(-2, -3).flatten(-2))
        return (tokens + self.mlp(self.norms[1](tokens))).movedim(-2, 0)


class RecurrentPooling(Pooling):
    """A gated recurrent unit over the transitions in their order."""

    def __init__(self, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.cell: nn.GRU = nn.GRU(dim, dim, device="meta").to_empty(device="cpu")  # no global randomness
        for name, parameter in self.cell.named_parameters():
            if name.startswith("weight"):
                for gate in parameter.data.chunk(3):
                    nn.init.orthogonal_(gate, generator=generator)
            else:
                nn.init.zeros_(parameter)

    def initial(self, shape: tuple[int, ...]) -> PoolState:
        device = next(self.cell.parameters()).device
        return (torch.zeros(*shape, self.cell.hidden_size, device=device),)

    def add(self, state: PoolState, embedding: Tensor, alive: Tensor) -> PoolState:
        hidden = self._run(embedding.unsqueeze(0), state[0])
        return (torch.where(alive.unsqueeze(-1), hidden[0], state[0]),)

    def read(self, state: PoolState) -> Tensor:
        hidden: Tensor = state[0]
        return hidden

    def prefixes(self, embeddings: Tensor, lengths: Tensor, alive: Tensor) -> Tensor:
        state = self.initial(tuple(embeddings.shape[1:-1]))
        if alive.all():
            return torch.cat([state[0].unsqueeze(0), self._run(embeddings, state[0])])[lengths]
        states = [state[0]]
        for embedding, is_there in zip(embeddings, alive, strict=True):
            state = self.add(state, embedding, is_there)
            states.append(state[0])
        return torch.stack(states)[lengths]

    def _run(self, embeddings: Tensor, start: Tensor) -> Tensor:
        flat = embeddings.flatten(1, -2)  # (T, rows, dim)
        hidden: Tensor = self.cell(flat, start.flatten(0, -2).unsqueeze(0))[0]
        return hidden.view_as(embeddings)


def sums_to(x: Tensor, lengths: Tensor) -> Tensor:
    """Sums of the first ``lengths`` (L,) of x (T, ...): (L, ...)."""
    if len(x) > MANY_STEPS:
        return torch.cat([torch.zeros_like(x[:1]), x]).cumsum(0)[lengths]
    is_within = torch.arange(len(x), device=x.device) < lengths.unsqueeze(-1)  # (L, T)
    return torch.tensordot(is_within.to(x.dtype), x, dims=1)


def linear(in_features: int, out_features: int, generator: torch.Generator) -> nn.Linear:
    """An orthogonal linear layer of gain 1: smaller gains leave the contrast on its saddle at z = 0."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, in_features, out_features)
    nn.init.orthogonal_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
