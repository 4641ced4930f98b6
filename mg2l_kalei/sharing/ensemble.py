"""Kaleidoscope's ensemble of critics: one network, a mask for each (Li et al., NeurIPS 2024, arXiv 2410.08540)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mg2l_kalei.sharing.kaleidoscope import KaleidoscopeConfig, KaleidoscopeSharing, clear_moments
from mg2l_kalei.sharing.masked_linear import masked_layers
from mg2l_kalei.types import Clock, Metrics, State


class KaleidoscopeEnsemble(KaleidoscopeSharing):
    """Weights that all members mask are left alone; instead members begin anew, one by one."""

    def __init__(self, config: KaleidoscopeConfig, members: Sequence[int], generator: torch.Generator) -> None:
        super().__init__(config, members, generator)
        self.n_resets = 0

    def on_env_steps(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, clock: Clock, generator: torch.Generator
    ) -> Metrics:
        """Redraw all thresholds of one member, in turn, once per ``reset_interval``, but not in the last one."""
        if not self._is_reset_due(clock):
            return {}
        member = self.n_resets % self.n_members
        self.n_resets += 1
        for layer in masked_layers(network):
            drawn = self._initial_thresholds(layer.weight.shape, layer.scale, generator)[member]
            with torch.no_grad():
                layer.thresholds[member] = drawn.to(layer.thresholds)
            chosen = torch.zeros_like(layer.thresholds, dtype=torch.bool)
            chosen[member] = True
            clear_moments(optimiser, layer.thresholds, chosen)
        return {"sharing/reset_member": float(member)}

    def state_dict(self) -> State:
        return {"n_resets": self.n_resets, **super().state_dict()}

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        self.n_resets = state.get("n_resets", self.n_intervals)  # earlier releases counted intervals instead
