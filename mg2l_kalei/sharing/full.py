"""Full parameter sharing: every member uses the same weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mg2l_kalei.sharing.base import GroupedLinear, ParameterSharing, orthogonal_weight


@dataclass(frozen=True)
class FullConfig:
    """Nothing to set: agent id is an option of the network's input."""


class SharedLinear(GroupedLinear):
    """One weight matrix (out, in) for all members: the group is part of the batch."""

    def __init__(self, n_members: int, weight: Tensor) -> None:
        super().__init__()
        self.n_members = n_members
        self.out_features, self.in_features = weight.shape
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(self.out_features))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class FullSharing(ParameterSharing):
    """One set of weights for the whole group."""

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
        return SharedLinear(self.n_members, orthogonal_weight(out_features, in_features, gain, self.generator))

    def vector(self, size: int, value: float) -> nn.Parameter:
        return nn.Parameter(torch.full((size,), value))
