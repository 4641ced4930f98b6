"""Mixers: what the team's action value is made of, out of each agent's. All are monotonic in every agent's value.

So the team's best joint action is each agent's best one, and acting needs no mixer.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Mixer(nn.Module, ABC):
    """Constructors are called as ``Mixer(n_agents, in_features, width=, hypernet_width=, generator=)``."""

    is_conditioned: ClassVar[bool] = True  # whether what the team knows makes a difference

    @abstractmethod
    def forward(self, q: Tensor, condition: Tensor) -> Tensor:
        """Each agent's value q (..., N), what the team knows (..., in_features) -> the team's value (...)."""


class AdditiveMixer(Mixer):
    """Value decomposition networks (VDN, Sunehag et al. 2018, arXiv 1706.05296): the sum."""

    is_conditioned = False

    def __init__(
        self, n_agents: int, in_features: int, *, width: int, hypernet_width: int, generator: torch.Generator
    ) -> None:
        super().__init__()

    def forward(self, q: Tensor, condition: Tensor) -> Tensor:
        return q.sum(-1)


class MonotonicMixer(Mixer):
    """QMIX (Rashid et al. 2018, arXiv 1803.11485): a layer whose weights, not negative, hypernetworks put out.

    Q_tot = |W_2(s)|^T ELU(|W_1(s)|^T q + b_1(s)) + V(s); the last two may be negative.
    """

    def __init__(
        self, n_agents: int, in_features: int, *, width: int, hypernet_width: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.width = width
        self.first_weight = _mlp((in_features, hypernet_width, n_agents * width), generator)
        self.second_weight = _mlp((in_features, hypernet_width, width), generator)
        self.first_bias = _linear(in_features, width, generator)
        self.value = _mlp((in_features, width, 1), generator)

    def forward(self, q: Tensor, condition: Tensor) -> Tensor:
        first = self.first_weight(condition).abs().unflatten(-1, (-1, self.width))  # (..., N, width)
        mixed = (q.unsqueeze(-1) * first).sum(-2) + self.first_bias(condition)  # (..., width)
        second = self.second_weight(condition).abs()  # (..., width)
        value: Tensor = (F.elu(mixed) * second).sum(-1) + self.value(condition).squeeze(-1)
        return value


MIXERS: dict[str, type[Mixer]] = {"qmix": MonotonicMixer, "vdn": AdditiveMixer}


def _mlp(widths: tuple[int, int, int], generator: torch.Generator) -> nn.Sequential:
    first, second, third = widths
    return nn.Sequential(_linear(first, second, generator), nn.ReLU(), _linear(second, third, generator))


def _linear(in_features: int, out_features: int, generator: torch.Generator) -> nn.Linear:
    """PyTorch's own initial weights, as published: orthogonal ones would mix values to dozens of times their size."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, in_features, out_features)
    bound = 1 / math.sqrt(max(1, in_features))
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer
