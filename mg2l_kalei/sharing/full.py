"""Full parameter sharing: every member uses the same weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mg2l_kalei.sharing.base import GroupedLinear, GroupedVector, LayerRole, ParameterSharing, orthogonal_weight


@dataclass(frozen=True)
class FullConfig:
    """Nothing to set: agent id is an option of the network's input."""


class SharedLinear(GroupedLinear):
    """One weight matrix (out, in) for all: the group is part of the batch."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(self.out_features))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2)  # one product, where views of more axes may become one for each row
        return F.linear(rows, self.weight, self.bias).unflatten(0, x.shape[:-1])

    def matrices(self, n_places: int) -> tuple[Tensor, Tensor]:
        return self.weight.mT[None], self.bias[None, None]


class FullSharing(ParameterSharing):
    """One set of weights for the whole group."""

    def linear(
        self, in_features: int, out_features: int, *, gain: float, role: LayerRole = LayerRole()
    ) -> GroupedLinear:
        return SharedLinear(orthogonal_weight(out_features, in_features, gain, self.generator))

    def vector(self, size: int, value: float) -> GroupedVector:
        return GroupedVector(torch.full((size,), value))
