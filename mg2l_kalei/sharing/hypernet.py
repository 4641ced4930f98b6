"""HyperMARL: networks that are generated from who the member is (Tessera et al., arXiv 2412.04233)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from envs.core import setting
from mg2l_kalei.sharing.base import (
    FormedLinear,
    GroupedLinear,
    LayerRole,
    members_setting,
    orthogonal_weight,
    orthogonal_weights,
)
from mg2l_kalei.sharing.independent import IndependentSharing

FORMS = ("linear", "mlp")


@dataclass(frozen=True)
class HypernetConfig:
    """What generates each layer's weights and biases."""

    form: str = setting(
        "linear",
        "of what generates weights: a linear map of the one-hot number, or, from a learned embedding, an MLP",
        choices=FORMS,
    )
    embedding_dim: int = setting(4, "width of each member's embedding; published: 4 to 8 (mlp)", low=1)
    generator_dim: int = setting(64, "width of the hidden layer of each generator (mlp)", low=1)
    members: str = members_setting()


GENERATED = ("weight", "bias", "common_weight", "common_bias")


class LinearHypernet(FormedLinear):
    """A linear map of the one-hot number with a bias: W_i = own_i + common, b_i likewise."""

    of_members = ("weight", "bias")
    scaled = GENERATED
    shifted = "common_bias"

    def __init__(self, weight: Tensor, places: Tensor | None = None) -> None:
        n_members, out_features, in_features = weight.shape
        super().__init__(in_features, out_features, places)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(n_members, out_features))
        self.common_weight = nn.Parameter(torch.zeros(out_features, in_features))
        self.common_bias = nn.Parameter(torch.zeros(out_features))

    def effective_weight(self) -> Tensor:
        return self.weight + self.common_weight

    def effective_bias(self) -> Tensor:
        return self.bias + self.common_bias


class MlpHypernet(FormedLinear):
    """Two generators, of weights and of biases: a hidden layer (ReLU) on the embedding, and a head.

    ``weight`` (H, out, in) is the head of the first, ``bias`` (H, out) that of the second, zero at first.
    ``embedding`` (G, E) is the network's, one for all of its layers; ``hidden`` (2, E, H) is of both generators.
    """

    of_members = ("embedding",)
    scaled = GENERATED
    shifted = "common_bias"

    def __init__(self, weight: Tensor, embedding: nn.Parameter, hidden: Tensor, places: Tensor | None = None) -> None:
        n_hidden, out_features, in_features = weight.shape
        super().__init__(in_features, out_features, places)
        self.embedding = embedding
        self.hidden = nn.Parameter(hidden)
        self.hidden_bias = nn.Parameter(torch.zeros(2, 1, n_hidden))
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(n_hidden, out_features))
        self.common_weight = nn.Parameter(torch.zeros(out_features, in_features))
        self.common_bias = nn.Parameter(torch.zeros(out_features))

    def effective_weight(self) -> Tensor:
        return (self._generator(0) @ self.weight.flatten(1)).unflatten(1, self.weight.shape[1:]) + self.common_weight

    def effective_bias(self) -> Tensor:
        return self._generator(1) @ self.bias + self.common_bias

    def _generator(self, which: int) -> Tensor:
        """Activations of a generator's hidden layer: (G, H)."""
        return torch.relu(self.embedding @ self.hidden[which] + self.hidden_bias[which])


class HypernetSharing(IndependentSharing):
    """The published networks do not see who they act for (``network.agent_id=false``); free vectors are own ones.

    Own matrices, heads and embeddings start as published: each own matrix, each row of an MLP's head, is orthogonal.
    So generated weights are orthogonal under the linear form, and under the other sqrt(H / max(E, members)) times as
    large, 2.6 to 3.6 times with 5 to 9 members.
    """

    config: HypernetConfig

    def __init__(self, config: HypernetConfig, members: Sequence[int], generator: torch.Generator) -> None:
        super().__init__(config, members, generator)
        self.embedding: nn.Parameter | None = None  # (G, E), made with the first layer

    def linear(
        self, in_features: int, out_features: int, *, gain: float, role: LayerRole = LayerRole()
    ) -> GroupedLinear:
        if self.config.form == "linear":
            own = orthogonal_weights(self.n_members, out_features, in_features, gain, self.generator)
            return LinearHypernet(own, self.places)
        embedding_dim, n_hidden = self.config.embedding_dim, self.config.generator_dim
        if self.embedding is None:
            embedding = orthogonal_weight(self.n_members, embedding_dim, math.sqrt(2), self.generator)
            self.embedding = nn.Parameter(embedding)
        hidden = torch.randn(2, embedding_dim, n_hidden, generator=self.generator) / math.sqrt(embedding_dim)
        weight = orthogonal_weights(n_hidden, out_features, in_features, gain, self.generator)
        return MlpHypernet(weight, self.embedding, hidden, self.places)
