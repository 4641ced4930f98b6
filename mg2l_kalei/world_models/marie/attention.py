"""Blocks of transformers, with normalisation before each part: x + part(norm(x))."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INITIAL_STD = 0.5  # of embeddings: as large as what layers add, or that would drown them


class Memory:
    """Keys and values of a layer for R sequences, room for ``n_places``."""

    def __init__(self, n_rows: int, n_places: int, attention: Attention, like: Tensor) -> None:
        shape = (n_rows, attention.n_heads, n_places, attention.head_dim)
        self.keys, self.values = like.new_empty(shape), like.new_empty(shape)
        self.n_held = 0

    def add(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All there are, with new ones (R, H, S, head_dim)."""
        first, self.n_held = self.n_held, self.n_held + keys.shape[2]
        self.keys[:, :, first : self.n_held], self.values[:, :, first : self.n_held] = keys, values
        return self.keys[:, :, : self.n_held], self.values[:, :, : self.n_held]


class Attention(nn.Module):
    """Attention with several heads, whose width need not be a share of ``dim``; over itself, or over a context."""

    def __init__(self, dim: int, n_heads: int, head_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.n_heads, self.head_dim = n_heads, head_dim
        inner = n_heads * head_dim
        self.query, self.key_value = linear(dim, inner, generator), linear(dim, 2 * inner, generator)
        self.out = linear(inner, dim, generator)

    def forward(
        self, x: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None, memory: Memory | None = None
    ) -> Tensor:
        """x (R, S, dim) asks of context (R, M, dim), None: of itself and what ``memory`` holds -> (R, S, dim).

        mask (R, 1, S, M) bool: who may look at whom; None: all at all.
        """
        query = self._heads(self.query(x))
        key, value = map(self._heads, self.key_value(x if context is None else context).chunk(2, dim=-1))
        if memory is not None:
            key, value = memory.add(key, value)
        mixed = F.scaled_dot_product_attention(query, key, value, mask)  # (R, H, S, head_dim)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (R, H, S, head_dim)


class FeedForward(nn.Module):
    """Two layers of four times the width, GELU between them; ``is_gated``: its input is multiplied by another."""

    def __init__(self, dim: int, generator: torch.Generator, *, is_gated: bool = False) -> None:
        super().__init__()
        self.is_gated = is_gated
        self.inside = linear(dim, 4 * dim * (2 if is_gated else 1), generator)
        self.out = linear(4 * dim, dim, generator)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inside(x)
        if self.is_gated:
            value, gate = x.chunk(2, dim=-1)
            x = value * F.gelu(gate)
        else:
            x = F.gelu(x)
        out: Tensor = self.out(x)
        return out


class Block(nn.Module):
    """Self-attention, then a feed-forward network. What they add is dropped out with chance ``dropout`` in training.

    The published code also drops attention itself, which PyTorch's does from a global generator alone.
    """

    def __init__(self, dim: int, attention: Attention, generator: torch.Generator, *, is_gated: bool = False) -> None:
        super().__init__()
        self.attention, self.attention_norm = attention, nn.LayerNorm(dim)
        self.mlp, self.mlp_norm = FeedForward(dim, generator, is_gated=is_gated), nn.LayerNorm(dim)

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        memory: Memory | None = None,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """x (R, S, dim) -> (R, S, dim)."""
        x = x + dropped(self.attention(self.attention_norm(x), mask=mask, memory=memory), dropout, generator)
        return x + dropped(self.mlp(self.mlp_norm(x)), dropout, generator)


class Transformer(nn.Module):
    """Blocks, and a last normalisation."""

    def __init__(self, dim: int, n_layers: int, n_heads: int, dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        self.dropout = dropout
        attentions = [Attention(dim, n_heads, dim // n_heads, generator) for _ in range(n_layers)]
        self.layers = nn.ModuleList(Block(dim, attention, generator) for attention in attentions)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """x (R, S, dim), mask (R, 1, S, S) bool -> (R, S, dim). ``generator``: of dropout; None: there is none."""
        x = dropped(x, self.dropout, generator)
        for layer in self.layers:
            x = layer(x, mask=mask, dropout=self.dropout, generator=generator)
        out: Tensor = self.norm(x)
        return out

    def memories(self, n_rows: int, n_places: int, like: Tensor) -> list[Memory]:
        """Empty ones, of each layer."""
        return [Memory(n_rows, n_places, attention, like) for attention in map(attention_of, self.layers)]

    @property
    def place_size(self) -> int:
        """Numbers that memories of all layers hold of one place."""
        return sum(2 * attention.n_heads * attention.head_dim for attention in map(attention_of, self.layers))

    def go_on(self, x: Tensor, mask: Tensor, memories: list[Memory]) -> Tensor:
        """The same for places x (R, S, dim) that follow those in memory, all M of which mask (R, 1, S, M) is of."""
        for layer, memory in zip(self.layers, memories, strict=True):
            x = layer(x, mask=mask, memory=memory)
        out: Tensor = self.norm(x)
        return out


def attention_of(block: nn.Module) -> Attention:
    """The block's own."""
    assert isinstance(block, Block)
    return block.attention


def dropped(x: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """x with a share of it left out at random, and the rest scaled up; as it is without a generator."""
    if generator is None or not share:
        return x
    return x * (torch.rand(x.shape, generator=generator, device=x.device) >= share) / (1 - share)


def linear(in_features: int, out_features: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer that keeps the size of what it reads, without offset at first.

    The published weights, normal of deviation 0.02 at any width, leave a narrow transformer hardly a gradient.
    """
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, in_features, out_features)
    nn.init.normal_(layer.weight, std=in_features**-0.5, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def embedding(n: int, dim: int, generator: torch.Generator) -> nn.Embedding:
    """A table of vectors, normal of deviation ``INITIAL_STD``; the published ones, of 0.02."""
    table: nn.Embedding = nn.utils.skip_init(nn.Embedding, n, dim)
    nn.init.normal_(table.weight, std=INITIAL_STD, generator=generator)
    return table
