"""Kaleidoscope's layer: one shared weight matrix, and a learnable soft-threshold mask per member (arXiv 2410.08540)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mg2l_kalei.sharing.base import FormedLinear, LayerRole

THRESHOLDS = (1e-30, 1 - 2**-20)  # to which a layer can be rescaled
Members = slice | list[int]  # of a group, whose masks are looked at


class PairwiseMaskDifference(torch.autograd.Function):
    """Sum over ordered pairs (i, j) of |M_i - M_j|, entry by entry: (G, ...) margins -> (...).

    M_i = 1[margin_i > 0]; its straight-through backward is tanh of the gradient reaching it from all pairs together.
    With k = sum_i M_i the sum is 2k(G - k) and its derivative by M_i is 2(G M_i - k): linear in G.
    """

    @staticmethod
    def forward(ctx: Any, margin: Tensor) -> Tensor:
        mask = (margin > 0).to(margin.dtype)
        k = mask.sum(0)
        ctx.save_for_backward(mask, k)
        return 2 * k * (len(mask) - k)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        mask, k = ctx.saved_tensors
        by_mask = len(mask) * mask - k  # (G, ...)
        return by_mask.mul_(2 * grad_outputs[0]).tanh_()


class MaskedLinear(FormedLinear):
    """W_i = sign(W) relu(|W| - sigmoid(s_i)), with gradients to weight W (out, in) and thresholds s (G, out, in)."""

    of_members = ("thresholds",)

    def __init__(
        self,
        weight: Tensor,
        thresholds: Tensor,
        places: Tensor | None = None,
        *,
        role: LayerRole = LayerRole(),
        scale: float = 1.0,
    ) -> None:
        super().__init__(weight.shape[1], weight.shape[0], places)
        self.role, self.scale = role, scale  # what is drawn for it later is as small as what it began with
        self.weight = nn.Parameter(weight)
        self.thresholds = nn.Parameter(thresholds)
        self.bias = nn.Parameter(torch.zeros(self.out_features))

    @torch.no_grad()
    def rescale(self, scale: Tensor, shift: Tensor) -> None:
        """Thresholds follow the weights, so that masks stay; one that would pass 1 stops there: none can be higher."""
        threshold = (self.thresholds.sigmoid() * scale).clamp(*THRESHOLDS)
        super().rescale(scale, shift)
        self.thresholds.copy_(torch.logit(threshold))

    def effective_weight(self) -> Tensor:
        return self.weight.detach().sign() * torch.relu(self.weight.abs() - self.thresholds.sigmoid())

    def masks(self) -> Tensor:
        """Which weights each member uses: (G, out, in) bool."""
        return self.weight.abs() > self.thresholds.sigmoid()


def masked_layers(network: nn.Module) -> list[MaskedLinear]:
    """The network's maskable layers, in the order of its modules."""
    return [module for module in network.modules() if isinstance(module, MaskedLinear)]


def mask_diversity(layers: Sequence[MaskedLinear], members: Members = slice(None)) -> Tensor:
    """Sum over layers and ordered pairs of w_l || |W| (M_i - M_j) ||_1: scalar, with gradient to thresholds alone.

    All layers at once: they are small, so that what costs is the number of operations.
    """
    weights = [layer.weight.detach().abs().flatten() for layer in layers]
    weighted = [layer.role.weight * weight for layer, weight in zip(layers, weights, strict=True)]
    thresholds = [layer.thresholds[members].flatten(1) for layer in layers]
    margin = torch.cat(weights) - torch.cat(thresholds, dim=1).sigmoid()  # (G, P)
    difference: Tensor = PairwiseMaskDifference.apply(margin)
    return (torch.cat(weighted) * difference).sum()
