"""Poolings over time, by name: ``make(config, width, generator)`` of an encoder's config and its embeddings' width."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from mg2l_kalei.encoders.pooling import AttentionPooling, Pooling, RecurrentPooling, WindowedAttentionPooling
from mg2l_kalei.encoders.regression import RegressionPooling


def attention_head(config: Any, width: int, generator: torch.Generator) -> Pooling:
    return AttentionPooling(width, config.n_heads, generator)


def attention_blocks(config: Any, width: int, generator: torch.Generator) -> Pooling:
    return WindowedAttentionPooling(width, config.n_heads, generator, window=config.window, n_blocks=1)


def recurrent(config: Any, width: int, generator: torch.Generator) -> Pooling:
    return RecurrentPooling(width, generator)


def regression(config: Any, width: int, generator: torch.Generator) -> Pooling:
    return RegressionPooling(config.n_reward_features, width, generator)


POOLINGS: dict[str, Callable[[Any, int, torch.Generator], Pooling]] = {
    "attention_head": attention_head,
    "attention_blocks": attention_blocks,
    "recurrent": recurrent,
    "regression": regression,
}
