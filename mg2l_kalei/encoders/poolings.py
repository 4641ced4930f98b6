"""Poolings over time, by name: ``make(config, width, generator)`` of an encoder's config and its embeddings' width."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch

from mg2l_kalei.encoders.gaussian_product import GaussianProductPooling, GivenPosterior, ProductOverAgents
from mg2l_kalei.encoders.pooling import (
    AttentionPooling,
    Pooling,
    PoolingOfRoles,
    RecurrentPooling,
    WindowedAttentionPooling,
)
from mg2l_kalei.encoders.posterior import PosteriorLayer
from mg2l_kalei.encoders.regression import RegressionPooling
from mg2l_kalei.encoders.retention import RetentionPooling
from mg2l_kalei.encoders.transformer import TransformerPooling

N_TRANSFORMER_BLOCKS = 2

OverAgents = AttentionPooling | ProductOverAgents | PoolingOfRoles  # ``pool``: x^i (..., N, width) -> x (..., width)
Posterior = PosteriorLayer | GivenPosterior


def no_problems(config: Any, context_length: int) -> Iterable[str]:
    return ()


def attention_over_agents(config: Any, width: int, generator: torch.Generator) -> OverAgents:
    return AttentionPooling(width, config.n_heads, generator)


def hidden_layer_posterior(config: Any, width: int, generator: torch.Generator) -> Posterior:
    return PosteriorLayer(width, config.latent_dim, generator)


class PoolingKind(NamedTuple):
    """How a pooling is made, and what it asks of an encoder."""

    make: Callable[[Any, int, torch.Generator], Pooling]
    problems: Callable[[Any, int], Iterable[str]] = no_problems  # with contexts of so many transitions, a line each
    uses_reward_features: bool = False  # whether embeddings are features in which what tasks pay is linear
    over_agents: Callable[[Any, int, torch.Generator], OverAgents] = (
        attention_over_agents  # whose ``pool`` makes x of x^i
    )
    posterior: Callable[[Any, int, torch.Generator], Posterior] = hidden_layer_posterior  # of what was pooled
    can_tell_agents_apart: bool = True  # whether x^i may be mapped agent by agent before x is made of them

    def __call__(self, config: Any, width: int, generator: torch.Generator) -> Pooling:
        return self.make(config, width, generator)


def attention_head(config: Any, width: int, generator: torch.Generator) -> Pooling:
    return AttentionPooling(width, config.n_heads, generator)


def attention_blocks(config: Any, width: int, generator: torch.Generator) -> Pooling:
    return WindowedAttentionPooling(width, config.n_heads, generator, window=config.window, n_blocks=1)


def recurrent(config: Any, width: int, generator: torch.Generator) -> Pooling:
    return RecurrentPooling(width, generator)


def regression(config: Any, width: int, generator: torch.Generator) -> Pooling:
    return RegressionPooling(config.n_reward_features, width, generator)


def linear_posterior(config: Any, width: int, generator: torch.Generator) -> Posterior:
    return PosteriorLayer(width, config.latent_dim, generator, is_linear=True)


def gaussian_product(config: Any, width: int, generator: torch.Generator) -> Pooling:
    return GaussianProductPooling(width, config.latent_dim, generator)


def product_over_agents(config: Any, width: int, generator: torch.Generator) -> OverAgents:
    return ProductOverAgents()


def given_posterior(config: Any, width: int, generator: torch.Generator) -> Posterior:
    return GivenPosterior()


def transformer(config: Any, width: int, generator: torch.Generator) -> Pooling:
    n_blocks, window = N_TRANSFORMER_BLOCKS, config.window
    return TransformerPooling(width, config.n_heads, generator, window=window, n_blocks=n_blocks)


def retention(config: Any, width: int, generator: torch.Generator) -> Pooling:
    return RetentionPooling(width, config.n_heads, generator)


def without_features(config: Any, context_length: int) -> Iterator[str]:
    if not config.reward_prediction_coef:
        yield "encoder.reward_prediction_coef=0 leaves encoder.pooling=regression without features: it trains them"
    elif "reward_prediction" not in config.objectives:
        yield "encoder.pooling=regression has no features without reward_prediction among encoder.objectives"


def forgets_most(config: Any, context_length: int) -> Iterator[str]:
    if config.window < context_length:
        yield f"encoder.window={config.window} forgets most of context.length={context_length}"


POOLINGS: dict[str, PoolingKind] = {
    "attention_head": PoolingKind(attention_head),
    "attention_blocks": PoolingKind(attention_blocks, forgets_most),
    "recurrent": PoolingKind(recurrent),
    "regression": PoolingKind(regression, without_features, uses_reward_features=True, posterior=linear_posterior),
    "gaussian_product": PoolingKind(
        gaussian_product, over_agents=product_over_agents, posterior=given_posterior, can_tell_agents_apart=False
    ),
    "transformer": PoolingKind(transformer, forgets_most),
    "retention": PoolingKind(retention),
}
