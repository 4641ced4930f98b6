"""Gated recurrent networks for a group of members: a grouped MLP that remembers, after its first layer.

A sharing scheme decides whose weights are whose, and masks the layers around the GRU as Kaleidoscope does: the GRU
itself is never masked, and the layer before it is not reset.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mg2l_kalei.networks.config import NetworkConfig
from mg2l_kalei.networks.gru_scan import states_after
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
        self.recurrence = sharing.linear(size, 3 * size, gain=1.0, role=unmasked._replace(reads_state=True))
        self.n_places = sharing.n_places

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """x (L, S, G, in_features) -> the state after each step (L, S, G, size)."""
        gates, state, start = self.input(x), memory.state, memory.start
        kept = None if start is None else (~start).to(x.dtype)[..., None, None].expand(-1, -1, self.n_places, 1)
        if len(x) == 1:
            return self._step(gates[0], state if kept is None else state * kept[0])[None]
        weight, bias = self.recurrence.matrices(self.n_places)
        if len(weight) == 1:  # everybody's rows are those of one product
            kept = None if kept is None else kept.flatten(1, 2)[:, None]
            after = states_after(gates.flatten(1, 2)[:, None], state.flatten(0, 1)[None], kept, weight, bias)
            return after[:, 0].unflatten(1, (-1, self.n_places))
        kept = None if kept is None else kept.transpose(1, 2)
        after = states_after(gates.transpose(1, 2), state.transpose(0, 1), kept, weight, bias)
        return after.transpose(1, 2)

    def _step(self, gates: Tensor, state: Tensor) -> Tensor:
        """gates (S, G, 3 size) of the input, state (S, G, size) -> the state after the step."""
        reset, update, new = gates.chunk(3, dim=-1)
        reset_by, update_by, new_by = self.recurrence(state).chunk(3, dim=-1)
        new = torch.tanh(new + torch.sigmoid(reset + reset_by) * new_by)
        return torch.lerp(new, state, torch.sigmoid(update + update_by))


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

    def forward(self, x: Tensor, memory: Memory, gates: Sequence[Tensor] = ()) -> tuple[Tensor, Tensor]:
        """x (L, S, G, in_features) -> outputs (L, S, G, out_features), and the state after each step.

        ``gates`` are those of ``GroupedMlp``: the first are of what the GRU reads.
        """
        states = self.gru(self.mlp.first(x, gates), memory)
        return self.mlp.rest(states, gates), states
