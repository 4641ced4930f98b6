"""A shared matrix and, of each member's own, one of low rank added to it (Hu et al. 2022, arXiv 2106.09685)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from envs.core import setting
from mg2l_kalei.sharing.base import FormedLinear, GroupedLinear, LayerRole, members_setting, orthogonal_weight
from mg2l_kalei.sharing.independent import IndependentSharing


@dataclass(frozen=True)
class LowRankConfig:
    rank: int = setting(4, "of the matrix that each member adds to the shared one", low=1)
    members: str = members_setting()


class LowRankLinear(FormedLinear):
    """W_i = W + U_i D_i, with W (out, in), U (G, out, rank) and D (G, rank, in). U is zero at first: all are alike."""

    of_members = ("up", "down")
    scaled = ("weight", "up", "bias")

    def __init__(self, weight: Tensor, down: Tensor, places: Tensor | None = None) -> None:
        super().__init__(weight.shape[1], weight.shape[0], places)
        n_members, rank, _ = down.shape
        self.weight, self.down = nn.Parameter(weight), nn.Parameter(down)
        self.up = nn.Parameter(torch.zeros(n_members, self.out_features, rank))
        self.bias = nn.Parameter(torch.zeros(self.out_features))

    def effective_weight(self) -> Tensor:
        return torch.baddbmm(self.weight, self.up, self.down)


class LowRankSharing(IndependentSharing):
    """Shared matrices and biases, own matrices of low rank; free vectors are each member's own."""

    config: LowRankConfig

    def linear(
        self, in_features: int, out_features: int, *, gain: float, role: LayerRole = LayerRole()
    ) -> GroupedLinear:
        weight = orthogonal_weight(out_features, in_features, gain, self.generator)
        shape = (self.n_members, self.config.rank, in_features)
        down = torch.randn(shape, generator=self.generator) / in_features**0.5
        return LowRankLinear(weight, down, self.places)
