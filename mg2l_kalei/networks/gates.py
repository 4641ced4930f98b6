"""Gates on what each layer reads, set by the task: soft masks over whole columns of weights, of each agent and task."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mg2l_kalei.sharing.base import ParameterSharing, orthogonal_weights
from mg2l_kalei.sharing.independent import IndependentLinear


class TaskGates(nn.Module):
    """latent (..., N, latent_dim) -> for each layer, factors in (0, 2) of its inputs: (..., N, width) each.

    They are 2 sigmoid(A_i z + b_i), so that layers start as they would without gates where z is 0. A_i and b_i are of
    the sharing scheme's member i, whoever else shares the layers' weights. W (g * x) = (W diag(g)) x: a column of zeros
    is a column masked, at the cost of a product as wide as all inputs together.
    """

    def __init__(self, sharing: ParameterSharing, latent_dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(widths)
        n_gates = sum(self.widths)
        gain = math.sqrt(n_gates / max(1, latent_dim))  # A_i z is as large, entry by entry, as z
        weights = orthogonal_weights(sharing.n_members, n_gates, latent_dim, gain, sharing.generator)
        self.linear = IndependentLinear(weights, sharing.places)

    def forward(self, latent: Tensor) -> tuple[Tensor, ...]:
        gates: Tensor = 2 * torch.sigmoid(self.linear(latent))
        return gates.split(self.widths, dim=-1)
