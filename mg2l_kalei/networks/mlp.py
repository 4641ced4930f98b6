"""A multilayer perceptron for a group of members; a sharing scheme decides whose weights are whose."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mg2l_kalei.networks.config import NetworkConfig
from mg2l_kalei.sharing.base import GroupedLinear, LayerRole, ParameterSharing

# An activation, and the gain of the layer before it that keeps the variance of its input.
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "relu": (F.relu, math.sqrt(2)),
    "gelu": (F.gelu, math.sqrt(2)),
    "tanh": (torch.tanh, 5 / 3),
}


class GroupedMlp(nn.Module):
    """``(..., N, in_features) -> (..., N, out_features)``, each place by its member's effective weights.

    Layers weigh 1, 2, 4, ... in a masking scheme's diversity term. ``output_gain`` is the last layer's initial gain
    (0.01 for policies). ``first_resettable``: whether a scheme that redraws dead weights may do so in the first layer.
    ``place_id``: each place's one-hot number stands before its input. ``gates``, if any, are factors of each hidden
    layer's activations, (..., N, width) each.
    """

    one_hot: Tensor | None

    def __init__(
        self,
        sharing: ParameterSharing,
        in_features: int,
        out_features: int,
        config: NetworkConfig,
        *,
        output_gain: float = 1.0,
        first_resettable: bool = True,
        place_id: bool = False,
    ) -> None:
        super().__init__()
        self.activation, gain = ACTIVATIONS[config.activation]
        self.register_buffer("one_hot", torch.eye(sharing.n_places) if place_id else None, persistent=False)  # (N, N)
        width = in_features + (sharing.n_places if place_id else 0)
        self.hidden = nn.ModuleList()
        for depth, out in enumerate(config.hidden):
            is_first = depth == 0
            role = LayerRole(is_resettable=first_resettable or not is_first, weight=2.0**depth, reads_input=is_first)
            linear = sharing.linear(width, out, gain=gain, role=role)
            norm = GroupedLayerNorm(sharing, out) if config.layer_norm else nn.Identity()
            self.hidden.append(nn.Sequential(linear, norm))
            width = out
        last = LayerRole(weight=2.0 ** len(config.hidden), reads_input=not config.hidden, is_output=True)
        self.output: GroupedLinear = sharing.linear(width, out_features, gain=output_gain, role=last)

    def forward(self, x: Tensor, gates: Sequence[Tensor] = ()) -> Tensor:
        return self.rest(self.first(x, gates), gates)

    def first(self, x: Tensor, gates: Sequence[Tensor] = ()) -> Tensor:
        """Activations of the first hidden layer, if any: (..., N, in_features) -> (..., N, width)."""
        if self.one_hot is not None:
            x = torch.cat([self.one_hot.expand(*x.shape[:-1], -1), x], dim=-1)  # (..., N, N + in)
        return self._activations(0, x, gates) if self.hidden else x

    def rest(self, x: Tensor, gates: Sequence[Tensor] = ()) -> Tensor:
        """What the layers after it make of them: (..., N, width) -> (..., N, out_features)."""
        for depth in range(1, len(self.hidden)):
            x = self._activations(depth, x, gates)
        y: Tensor = self.output(x)
        return y

    def _activations(self, depth: int, x: Tensor, gates: Sequence[Tensor]) -> Tensor:
        x = self.activation(self.hidden[depth](x))
        return x * gates[depth] if gates else x


class GroupedLayerNorm(nn.Module):
    """Layer normalisation whose scale and shift are the sharing scheme's free vectors."""

    def __init__(self, sharing: ParameterSharing, size: int) -> None:
        super().__init__()
        self.scale = sharing.vector(size, 1.0)
        self.shift = sharing.vector(size, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:]) * self.scale() + self.shift()
