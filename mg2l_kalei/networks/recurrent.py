"""Gated recurrent networks for a group of members: a grouped MLP that remembers, after its first layer.

A sharing scheme decides whose weights are whose, and masks the layers around the GRU as Kaleidoscope does: the GRU
itself is never masked, and the layer before it is not reset.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mg2l_kalei.networks.config import NetworkConfig
from mg2l_kalei.networks.gru_scan import GruScan
from mg2l_kalei.networks.mlp import GroupedMlp
from mg2l_kalei.sharing.base import GroupedLinear, LayerRole, ParameterSharing
from mg2l_kalei.sharing.full import SharedLinear


class Memory(NamedTuple):
    """Where a sequence of L steps begins, in S rows."""

    state: Tensor  # (S, G, size)   before the first step
    start: Tensor | None = None  # (L, S) bool   steps before which all is forgotten; None: no such steps


class GroupedGru(nn.Module):
    """Gated recurrent units (Cho et al. 2014), in PyTorch's form; the weights are those of two grouped layers."""

    def __init__(self, sharing: ParameterSharing, in_features: int, size: int) -> None:
        super().__init__()
        unmasked = LayerRole(is_masked=False)
        self.input = sharing.linear(in_features, 3 * size, gain=1.0, role=unmasked)
        self.recurrence = sharing.linear(size, 3 * size, gain=1.0, role=unmasked)
        self.size, self.n_places = size, sharing.n_places

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """x (L, S, G, in_features) -> the state after each step (L, S, G, size)."""
        gates, state, start = self.input(x), memory.state, memory.start
        kept = None if start is None else (~start).to(x.dtype)[..., None, None].expand(-1, -1, self.n_places, 1)
        if len(x) == 1:  # when acting: a step does not pay for reading off the matrices
            return self._step(gates[0], state if kept is None else state * kept[0])[None]
        if isinstance(self.recurrence, SharedLinear):  # everybody's rows are those of one product
            weight, bias = self.recurrence.weight.mT[None], self.recurrence.bias[None, None]
            kept = None if kept is None else kept.flatten(1, 2)[:, None]
            states = GruScan.apply(gates.flatten(1, 2)[:, None], state.flatten(0, 1)[None], kept, weight, bias)
            return states[:, 0].unflatten(1, (-1, self.n_places))
        kept = None if kept is None else kept.transpose(1, 2)
        states = GruScan.apply(gates.transpose(1, 2), state.transpose(0, 1), kept, *self._matrices())
        return states.transpose(1, 2)

    def _step(self, gates: Tensor, state: Tensor) -> Tensor:
        """gates (S, G, 3 size) of the input, state (S, G, size) -> the state after the step."""
        reset, update, new = gates.chunk(3, dim=-1)
        reset_by, update_by, new_by = self.recurrence(state).chunk(3, dim=-1)
        new = torch.tanh(new + torch.sigmoid(reset + reset_by) * new_by)
        return torch.lerp(new, state, torch.sigmoid(update + update_by))

    def _matrices(self) -> tuple[Tensor, Tensor]:
        """Each place's matrix (G, size, 3 size) and bias (G, 1, 3 size), read off: any scheme's layer is affine."""
        units = torch.eye(self.size, out=self.recurrence.weight.new_empty(self.size, self.size))
        bias = self.recurrence(torch.zeros_like(units[:1, None]).expand(-1, self.n_places, -1))
        matrix = self.recurrence(units[:, None].expand(-1, self.n_places, -1)) - bias
        return matrix.transpose(0, 1).contiguous(), bias.transpose(0, 1)


class RecurrentMlp(nn.Module):
    """``GroupedMlp`` with a GRU, as wide as its first hidden layer, after that layer."""

    def __init__(
        self,
        sharing: ParameterSharing,
        in_features: int,
        out_features: int,
        config: NetworkConfig,
        *,
        output_gain: float = 1.0,
        place_id: bool = False,
    ) -> None:
        super().__init__()
        self.mlp = GroupedMlp(
            sharing,
            in_features,
            out_features,
            config,
            output_gain=output_gain,
            first_resettable=False,
            place_id=place_id,
        )
        self.size = config.hidden[0]
        self.gru = GroupedGru(sharing, self.size, self.size)

    @property
    def output(self) -> GroupedLinear:
        """The last layer."""
        return self.mlp.output

    def forward(self, x: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """x (L, S, G, in_features) -> outputs (L, S, G, out_features), and the state after each step."""
        states = self.gru(self.mlp.first(x), memory)
        return self.mlp.rest(states), states
