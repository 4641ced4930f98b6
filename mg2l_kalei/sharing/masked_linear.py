"""Kaleidoscope's layer: one shared weight matrix, and a learnable soft-threshold mask per member (arXiv 2410.08540)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mg2l_kalei.sharing.base import GroupedLinear, grouped_affine


class PairwiseMaskDifference(torch.autograd.Function):
    """Sum over ordered pairs (i, j) of |M_i - M_j|, entry by entry: (G, out, in) margins -> (out, in).

    M_i = 1[margin_i > 0]; its straight-through backward is tanh of the gradient reaching it from all pairs together.
    With k = sum_i M_i the sum is 2k(G - k) and its derivative by M_i is 2(G M_i - k): linear in G.
    """

    @staticmethod
    def forward(ctx: Any, margin: Tensor) -> Tensor:
        mask = margin > 0
        ctx.save_for_backward(mask)
        k = mask.sum(0)
        return (2 * k * (mask.shape[0] - k)).to(margin.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (mask,) = ctx.saved_tensors
        by_mask = 2 * (mask.shape[0] * mask.long() - mask.sum(0))  # (G, out, in)
        return torch.tanh(grad_outputs[0] * by_mask)


class MaskedLinear(GroupedLinear):
    """W_i = sign(W) relu(|W| - sigmoid(s_i)), with gradients to the weight W (out, in) and thresholds s (G, out, in).

    Effective weights are formed in each forward pass, once for all of its rows; inside ``frozen``, once for all passes.
    """

    def __init__(
        self, weight: Tensor, thresholds: Tensor, *, resettable: bool = True, layer_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.n_members, self.out_features, self.in_features = thresholds.shape
        self.resettable = resettable
        self.layer_weight = layer_weight
        self.weight = nn.Parameter(weight)
        self.thresholds = nn.Parameter(thresholds)
        self.bias = nn.Parameter(torch.zeros(self.out_features))
        self.frozen_weight: Tensor | None = None  # (G, out, in), set by ``frozen`` only

    def forward(self, x: Tensor) -> Tensor:
        if self.frozen_weight is None or torch.is_grad_enabled():
            return grouped_affine(x, self.effective_weight(), self.bias)
        return grouped_affine(x, self.frozen_weight, self.bias)

    def effective_weight(self) -> Tensor:
        """Each member's weights, (G, out, in)."""
        return self.weight.detach().sign() * torch.relu(self.weight.abs() - self.thresholds.sigmoid())

    def masks(self) -> Tensor:
        """Which weights each member uses: (G, out, in) bool."""
        return self.weight.abs() > self.thresholds.sigmoid()

    def diversity(self) -> Tensor:
        """Sum over ordered pairs of || |W| (M_i - M_j) ||_1, times the layer's weight: scalar, gradient to s alone."""
        magnitude = self.weight.detach().abs()
        difference: Tensor = PairwiseMaskDifference.apply(magnitude - self.thresholds.sigmoid())
        return self.layer_weight * (magnitude * difference).sum()


def masked_layers(network: nn.Module) -> list[MaskedLinear]:
    """The network's maskable layers, in the order of its modules."""
    return [module for module in network.modules() if isinstance(module, MaskedLinear)]


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Form the network's effective weights once for all gradient-free passes in this block, such as a rollout's.

    A block, and not a cache keyed on parameter versions, because fused optimisers change parameters without a new
    version. Passes with gradient are as ever. Raises RuntimeError at the end if weights changed inside the block.
    """
    layers = masked_layers(network)
    with torch.no_grad():
        formed = [layer.effective_weight() for layer in layers]
    for layer, weight in zip(layers, formed, strict=True):
        layer.frozen_weight = weight
    try:
        yield
    finally:
        for layer in layers:
            layer.frozen_weight = None
    with torch.no_grad():
        changed = [
            i
            for i, (layer, old) in enumerate(zip(layers, formed, strict=True))
            if not torch.equal(layer.effective_weight(), old)
        ]
    if changed:
        raise RuntimeError(f"weights of masked layers {changed} were changed while they were frozen")
