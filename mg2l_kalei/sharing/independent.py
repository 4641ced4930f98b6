"""No parameter sharing: every member has weights of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mg2l_kalei.sharing.base import GroupedLinear, ParameterSharing, grouped_affine, orthogonal_weight


@dataclass(frozen=True)
class IndependentConfig:
    """Nothing to set."""


class IndependentLinear(GroupedLinear):
    """A weight matrix per member, (G, out, in), multiplied in one batched product."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.n_members, self.out_features, self.in_features = weight.shape
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(self.n_members, self.out_features))

    def forward(self, x: Tensor) -> Tensor:
        return grouped_affine(x, self.weight, self.bias)


class IndependentSharing(ParameterSharing):
    """Separate weights for each member, initialised apart."""

    def linear(
        self,
        in_features: int,
        out_features: int,
        *,
        gain: float,
        masked: bool = True,
        resettable: bool = True,
        layer_weight: float = 1.0,
    ) -> GroupedLinear:
        weights = [orthogonal_weight(out_features, in_features, gain, self.generator) for _ in range(self.n_members)]
        return IndependentLinear(torch.stack(weights))

    def vector(self, size: int, value: float) -> nn.Parameter:
        return nn.Parameter(torch.full((self.n_members, size), value))
