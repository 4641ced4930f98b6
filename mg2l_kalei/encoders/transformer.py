"""A causal transformer over the last transitions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mg2l_kalei.encoders.pooling import Pooling, linear


class Window(NamedTuple):
    """What a transformer keeps: the last W transitions, newest last, as each block attends to them."""

    keys: Tensor  # (blocks, W, ..., dim)
    values: Tensor  # (blocks, W, ..., dim)
    known: Tensor  # (W, ...) bool   places that hold something
    output: Tensor  # (..., dim)   at the newest; zeros before any


class TransformerPooling(Pooling):
    """Pre-norm blocks in which each transition attends to itself and to the ``window`` - 1 before it.

    Distances have learned biases, a head's own (as T5, Raffel et al. 2020, section 2.1, without its bins). Keys and
    values of the window are kept, so a step costs O(window) and is what one pass over the whole context gives: windows
    of later blocks reach further back through those of earlier ones.
    """

    def __init__(self, dim: int, n_heads: int, generator: torch.Generator, *, window: int, n_blocks: int) -> None:
        super().__init__()
        self.window, self.dim = window, dim
        self.blocks = nn.ModuleList(CausalBlock(dim, n_heads, generator) for _ in range(n_blocks))
        self.distance_bias = nn.Parameter(torch.zeros(n_heads, window))
        self.norm = nn.LayerNorm(dim)

    def initial(self, shape: tuple[int, ...]) -> Window:
        device = self.distance_bias.device
        nothing = torch.zeros(len(self.blocks), self.window, *shape, self.dim, device=device)
        known = torch.zeros(self.window, *shape, dtype=torch.bool, device=device)
        return Window(nothing, nothing, known, nothing[0, 0])

    def add(self, state: Window, embedding: Tensor, alive: Tensor) -> Window:
        x, keys, values = embedding.unsqueeze(0), [], []
        known = torch.cat([state.known[1:], torch.ones_like(state.known[:1])])
        visible = known.movedim(0, -1)[..., None, None, :]  # (..., 1, 1, W)
        bias = self.distance_bias.flip(-1).unsqueeze(-2).masked_fill(~visible, -torch.inf)  # (..., H, 1, W)
        for block, *past in zip(self.blocks, state.keys, state.values, strict=True):
            x, key, value = block(x, past, bias)
            keys.append(key)
            values.append(value)
        new = Window(torch.stack(keys), torch.stack(values), known, self.norm(x[0]))
        seen = alive.unsqueeze(-1)
        return Window(
            torch.where(seen, new.keys, state.keys),
            torch.where(seen, new.values, state.values),
            torch.where(alive, known, state.known),
            torch.where(seen, new.output, state.output),
        )

    def read(self, state: Window) -> Tensor:
        return state.output

    def prefixes(self, embeddings: Tensor, lengths: Tensor, alive: Tensor) -> Tensor:
        if not alive.all():
            return self.step_by_step(embeddings, lengths, alive)
        step = torch.arange(len(embeddings), device=embeddings.device)
        distance = step.unsqueeze(-1) - step  # (T, T)
        outside = (distance < 0) | (distance >= self.window)
        bias = self.distance_bias[:, distance.clamp(0, self.window - 1)].masked_fill(outside, -torch.inf)
        x = embeddings
        for block in self.blocks:
            x, _, _ = block(x, None, bias)
        return torch.cat([torch.zeros_like(x[:1]), self.norm(x)])[lengths]


class CausalBlock(nn.Module):
    """Self-attention and MLP over the first axis, with residual connections."""

    def __init__(self, dim: int, n_heads: int, generator: torch.Generator) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norms = nn.ModuleList([nn.LayerNorm(dim), nn.LayerNorm(dim)])
        self.qkv, self.output = linear(dim, 3 * dim, generator), linear(dim, dim, generator)
        self.mlp = nn.Sequential(linear(dim, 2 * dim, generator), nn.GELU(), linear(2 * dim, dim, generator))

    def forward(self, x: Tensor, past: tuple[Tensor, Tensor] | None, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (T, ..., dim), and the keys and values that it attends to: its own, after the newer ones of the past.

        past: a window of them (W, ..., dim), of which the oldest is dropped; None: there is none.
        bias (..., H, T, W), where there is no past (H, T, T).
        """
        query, key, value = self.qkv(self.norms[0](x)).chunk(3, dim=-1)
        if past is not None:
            key, value = (torch.cat([old[1:], new]) for old, new in zip(past, (key, value), strict=True))
        query, of_keys, of_values = (
            part.unflatten(-1, (self.n_heads, -1)).movedim(0, -2) for part in (query, key, value)
        )
        attended = F.scaled_dot_product_attention(query, of_keys, of_values, attn_mask=bias)  # (..., H, T, dim / H)
        x = x + self.output(attended.movedim(-2, 0).flatten(-2))
        return x + self.mlp(self.norms[1](x)), key, value
