"""Retention: attention without softmax, whose sum decays, so that a state of fixed size holds all of it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mg2l_kalei.encoders.pooling import Pooling, PoolState, linear

CHUNK = 64  # transitions that are looked at together; what came before them is in the state


class RetentionPooling(Pooling):
    """Multi-scale retention (Sun et al. 2023, arXiv 2307.08621, equations 5 to 8), one layer, without its rotations.

    S_t = decay S_{t-1} + k_t v_t^T, o_t = q_t S_t, a decay 1 - 2^(-5-h) for head h; heads are normalised, gated by the
    newest transition and mixed. Step by step, at once, and in chunks are the same.
    """

    decay: Tensor  # (H,)

    def __init__(self, dim: int, n_heads: int, generator: torch.Generator) -> None:
        super().__init__()
        self.n_heads, self.dim = n_heads, dim
        self.qkv, self.gate, self.output = (linear(dim, out, generator) for out in (3 * dim, dim, dim))
        decay = 1 - 2.0 ** (-5 - torch.arange(n_heads, dtype=torch.float32))
        self.register_buffer("decay", decay, persistent=False)

    def initial(self, shape: tuple[int, ...]) -> PoolState:
        """What is retained, and what was read of it at the newest transition: (..., H, d, d) and (..., dim)."""
        width, device = self.dim // self.n_heads, self.decay.device
        retained = torch.zeros(*shape, self.n_heads, width, width, device=device)
        return retained, torch.zeros(*shape, self.dim, device=device)

    def add(self, state: PoolState, embedding: Tensor, alive: Tensor) -> PoolState:
        query, key, value = self._heads(embedding)  # (..., H, d)
        retained = self.decay[:, None, None] * state[0] + key.unsqueeze(-1) * value.unsqueeze(-2)
        output = self._mixed((query.unsqueeze(-2) @ retained).squeeze(-2), embedding)
        seen = alive.unsqueeze(-1)
        return torch.where(seen[..., None, None], retained, state[0]), torch.where(seen, output, state[1])

    def read(self, state: PoolState) -> Tensor:
        output: Tensor = state[1]
        return output

    def prefixes(self, embeddings: Tensor, lengths: Tensor, alive: Tensor) -> Tensor:
        if not alive.all():
            return self.step_by_step(embeddings, lengths, alive)
        retained, nothing = self.initial(tuple(embeddings.shape[1:-1]))
        outputs = [nothing.unsqueeze(0)]
        for chunk in embeddings.split(CHUNK):
            heads, retained = self._chunk(chunk, retained)
            outputs.append(self._mixed(heads, chunk))
        return torch.cat(outputs)[lengths]

    def _chunk(self, chunk: Tensor, retained: Tensor) -> tuple[Tensor, Tensor]:
        """(C, ..., dim) after what is retained -> heads (C, ..., H, d), and what is retained after them."""
        query, key, value = (part.movedim(0, -2) for part in self._heads(chunk))  # (..., H, C, d)
        step = torch.arange(len(chunk), device=chunk.device)
        gap = step.unsqueeze(-1) - step  # (C, C)
        weight = (self.decay[:, None, None] ** gap.clamp(min=0)).masked_fill(gap < 0, 0.0)  # (H, C, C)
        reach = self.decay[:, None, None] ** (step + 1).unsqueeze(-1)  # (H, C, 1)
        heads = (query @ key.mT * weight) @ value + reach * (query @ retained)
        left = self.decay[:, None, None] ** (len(chunk) - 1 - step).unsqueeze(-1)  # (H, C, 1)
        all_of_it = self.decay[:, None, None] ** len(chunk)
        return heads.movedim(-2, 0), all_of_it * retained + (left * key).mT @ value

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values: (..., dim) -> (..., H, d) each."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.n_heads, -1)).unbind(-3)
        return query, key * key.shape[-1] ** -0.5, value

    def _mixed(self, heads: Tensor, x: Tensor) -> Tensor:
        """What heads (..., H, d) say, gated by the transitions x (..., dim): (..., dim)."""
        normed = F.layer_norm(heads, heads.shape[-1:]).flatten(-2)
        mixed: Tensor = self.output(F.silu(self.gate(x)) * normed)
        return mixed
