"""SNP: full sharing, and neurons that a member does not use (Kim & Sung, arXiv 2303.00912), a baseline of Kaleidoscope.

Once and for all, each member's neurons of each hidden layer are kept or masked at random. The ratio of Kaleidoscope's
comparison (Li et al., NeurIPS 2024, arXiv 2410.08540) is not published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from envs.core import setting
from mg2l_kalei.sharing.base import FormedLinear, GroupedLinear, LayerRole, members_setting, orthogonal_weight
from mg2l_kalei.sharing.full import FullSharing


@dataclass(frozen=True)
class SnpConfig:
    ratio: float = setting(0.5, "share of the neurons that a member does not use", low=0.0, high=1.0)
    members: str = members_setting()


class NeuronMaskedLinear(FormedLinear):
    """A shared layer (out, in) that hears the neurons of the layer before it as far as a member uses them."""

    neurons: Tensor  # (G, in) float32   1: used, 0: masked; never changes, saved with the weights

    def __init__(self, weight: Tensor, neurons: Tensor, places: Tensor | None = None) -> None:
        super().__init__(weight.shape[1], weight.shape[0], places)
        self.register_buffer("neurons", neurons)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(self.out_features))

    def effective_weight(self) -> Tensor:
        return self.weight * self.neurons[:, None]


class SnpSharing(FullSharing):
    """Masks stand after each hidden layer's activation: as masks over the inputs of the layer that follows.

    With a GRU, that after the first hidden layer stands after the GRU instead, over the state that it carries on: its
    recurrence hears the state as the next layer does, so that nobody hears what is masked of it.
    """

    config: SnpConfig

    def __init__(self, config: SnpConfig, members: Sequence[int], generator: torch.Generator) -> None:
        super().__init__(config, members, generator)
        self.first_neurons: Tensor | None = None  # (G, width) of the layer after the first hidden one, or the GRU

    def linear(
        self, in_features: int, out_features: int, *, gain: float, role: LayerRole = LayerRole()
    ) -> GroupedLinear:
        if role.reads_input or not (role.is_masked or role.reads_state):
            return super().linear(in_features, out_features, gain=gain)
        weight = orthogonal_weight(out_features, in_features, gain, self.generator)
        if role.reads_state and self.first_neurons is not None:
            return NeuronMaskedLinear(weight, self.first_neurons.clone(), self.places)
        neurons = (torch.rand(self.n_members, in_features, generator=self.generator) > self.config.ratio).float()
        if self.first_neurons is None:
            self.first_neurons = neurons
        return NeuronMaskedLinear(weight, neurons, self.places)
