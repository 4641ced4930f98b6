"""Is a masked neuron one that a member's network does not have, with a GRU too?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mg2l_kalei.networks import GroupedMlp, Memory, NetworkConfig, RecurrentMlp
from mg2l_kalei.networks.mlp import ACTIVATIONS
from mg2l_kalei.sharing.snp import NeuronMaskedLinear, SnpConfig, SnpSharing
from tests.small_systems import draw, generator

G, IN, SIZE, OUT = 3, 5, 16, 2


def scheme(ratio: float = 0.5) -> SnpSharing:
    return SnpSharing(SnpConfig(ratio), range(G), generator())


def masked(network: nn.Module) -> list[NeuronMaskedLinear]:
    return [module for module in network.modules() if isinstance(module, NeuronMaskedLinear)]


@pytest.mark.parametrize("layer_norm", [False, True])
def test_masks_stand_after_the_activation_of_every_hidden_layer(layer_norm: bool) -> None:
    network = GroupedMlp(scheme(), IN, OUT, NetworkConfig((SIZE, SIZE), activation="gelu", layer_norm=layer_norm))
    neurons, x = [layer.neurons for layer in masked(network)], draw(7, G, IN)
    assert [mask.shape for mask in neurons] == [(G, SIZE), (G, SIZE)]
    expected = x
    for layer, mask in zip(network.hidden, neurons, strict=True):
        assert isinstance(layer, nn.Sequential)
        linear: Any = layer[0]
        norm = layer[1]
        expected = mask * ACTIVATIONS["gelu"][0](norm(nn.functional.linear(expected, linear.weight, linear.bias)))
    expected = nn.functional.linear(expected, network.output.weight, network.output.bias)
    torch.testing.assert_close(network(x), expected)


def test_a_gru_carries_on_the_masked_state() -> None:
    """A reference that masks the state after each step, as the original does."""
    network = RecurrentMlp(scheme(), IN, OUT, NetworkConfig((SIZE, SIZE), memory="episode"))
    x, state = draw(6, 4, G, IN), torch.zeros(4, G, SIZE)
    after_gru, before_output, recurrence = (layer.neurons for layer in masked(network))
    assert torch.equal(recurrence, after_gru) and not torch.equal(after_gru, before_output)
    y, _ = network(x, Memory(state))
    for t in range(len(x)):
        state = after_gru * network.gru(network.mlp.first(x[t : t + 1]), Memory(state))[0]
        torch.testing.assert_close(y[t], network.mlp.rest(state))
    assert (state == 0).any() and (state != 0).any()


def test_the_ratio_is_the_share_that_is_masked_and_training_does_not_touch_it() -> None:
    layer = scheme(0.8).linear(500, 2, gain=1.0)
    assert isinstance(layer, NeuronMaskedLinear)
    before = layer.neurons.clone()
    assert before.unique().tolist() == [0, 1]
    assert torch.allclose(before.mean(1), torch.tensor(0.2), atol=0.06)
    optimiser = torch.optim.Adam(layer.parameters(), lr=1.0)
    layer(draw(3, G, 500)).sum().backward()
    optimiser.step()
    assert torch.equal(layer.neurons, before) and "neurons" in layer.state_dict()
