"""Gated recurrent networks for a group of members: a grouped MLP that remembers, after its first layer.

A sharing scheme decides whose weights are whose, and masks the layers around the GRU as Kaleidoscope does: the GRU
itself is never masked, and the layer before it is not reset.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mg2l_kalei.networks.config import NetworkConfig
from mg2l_kalei.networks.mlp import GroupedMlp
from mg2l_kalei.sharing.base import GroupedLinear, LayerRole, ParameterSharing


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

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """x (L, S, G, in_features) -> the state after each step (L, S, G, size)."""
        state, states = memory.state, []
        for t, gates in enumerate(self.input(x)):
            if memory.start is not None:
                state = state * (~memory.start[t, :, None, None])
            reset, update, new = gates.chunk(3, dim=-1)
            reset_by, update_by, new_by = self.recurrence(state).chunk(3, dim=-1)
            new = torch.tanh(new + torch.sigmoid(reset + reset_by) * new_by)
            state = torch.lerp(new, state, torch.sigmoid(update + update_by))
            states.append(state)
        return torch.stack(states)


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
