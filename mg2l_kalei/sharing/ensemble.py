"""Kaleidoscope's ensemble of critics: one network, a mask for each (Li et al., NeurIPS 2024, arXiv 2410.08540)."""

from __future__ import annotations

import torch
from torch import nn

from mg2l_kalei.sharing.kaleidoscope import KaleidoscopeSharing, clear_moments
from mg2l_kalei.sharing.masked_linear import masked_layers
from mg2l_kalei.types import Clock, Metrics


class KaleidoscopeEnsemble(KaleidoscopeSharing):
    """Weights that all members mask are left alone; instead members begin anew, one by one."""

    def on_env_steps(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, clock: Clock, generator: torch.Generator
    ) -> Metrics:
        """Redraw all thresholds of one member, in turn, once per ``reset_interval``, but not in the last one."""
        if not self._is_reset_due(clock):
            return {}
        member = (self.n_intervals - 1) % self.n_members
        for layer in masked_layers(network):
            drawn = self._initial_thresholds(layer.weight.shape, layer.scale, generator)[member]
            with torch.no_grad():
                layer.thresholds[member] = drawn.to(layer.thresholds)
            chosen = torch.zeros_like(layer.thresholds, dtype=torch.bool)
            chosen[member] = True
            clear_moments(optimiser, layer.thresholds, chosen)
        return {"sharing/reset_member": float(member)}
