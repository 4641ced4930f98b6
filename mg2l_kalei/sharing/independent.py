"""No parameter sharing: every member has weights of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mg2l_kalei.sharing.base import (
    GroupedLinear,
    GroupedVector,
    LayerRole,
    ParameterSharing,
    grouped_affine,
    members_setting,
    orthogonal_weights,
)
from mg2l_kalei.sharing.found import FoundGroups
from mg2l_kalei.sharing.grouping import GroupingConfig


@dataclass(frozen=True)
class IndependentConfig:
    members: str = members_setting()


class IndependentLinear(GroupedLinear):
    """A weight matrix per member, (G, out, in), multiplied in one batched product."""

    of_members = ("weight", "bias")
    places: Tensor | None  # (N,) int64   the member of each place; None: the places are the members

    def __init__(self, weight: Tensor, places: Tensor | None = None) -> None:
        super().__init__()
        n_members, self.out_features, self.in_features = weight.shape
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(n_members, self.out_features))
        self.register_buffer("places", places)

    def forward(self, x: Tensor) -> Tensor:
        return grouped_affine(x, self.weight, self.bias, self.places)

    def matrices(self, n_places: int) -> tuple[Tensor, Tensor]:
        weight, bias = (part if self.places is None else part[self.places] for part in (self.weight, self.bias))
        return weight.mT, bias[:, None]


@dataclass(frozen=True)
class SepsConfig(GroupingConfig):
    """Groups are found out; each has weights of its own."""

    members: str = members_setting("groups", groups=True)


class IndependentSharing(ParameterSharing):
    """Separate weights for each member, initialised apart."""

    def linear(
        self, in_features: int, out_features: int, *, gain: float, role: LayerRole = LayerRole()
    ) -> GroupedLinear:
        weights = orthogonal_weights(self.n_members, out_features, in_features, gain, self.generator)
        return IndependentLinear(weights, self.places)

    def vector(self, size: int, value: float) -> GroupedVector:
        return GroupedVector(torch.full((self.n_members, size), value), self.places)


class SepsSharing(FoundGroups, IndependentSharing):
    """Selective parameter sharing (Christianos et al. 2021): separate weights for each group that is found."""
