"""Are generated weights those of the published generators, and do members own what is theirs?"""

from __future__ import annotations

import pytest
import torch

from mg2l_kalei.networks import GroupedMlp, NetworkConfig
from mg2l_kalei.sharing.hypernet import HypernetConfig, HypernetSharing, LinearHypernet, MlpHypernet
from tests.small_systems import draw, generator

G, IN, OUT = 3, 5, 4


def scheme(form: str, n_members: int = G) -> HypernetSharing:
    return HypernetSharing(HypernetConfig(form), range(n_members), generator())


def test_the_linear_form_is_a_linear_map_of_the_one_hot_number() -> None:
    """One dense layer from the number to all weights of the layer, as published: in value, and in its gradients."""
    layer = scheme("linear").linear(IN, OUT, gain=1.0)
    assert isinstance(layer, LinearHypernet)
    dense = torch.nn.Linear(G, OUT * IN + OUT)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(draw(*parameter.shape))
        dense.weight.copy_(torch.cat([layer.weight.flatten(1), layer.bias], dim=1).T)
        dense.bias.copy_(torch.cat([layer.common_weight.flatten(), layer.common_bias]))
    x, direction = draw(7, G, IN), draw(7, G, OUT, seed=1)
    generated = dense(torch.eye(G))
    weight, bias = generated[:, : OUT * IN].unflatten(1, (OUT, IN)), generated[:, OUT * IN :]
    expected = torch.einsum("mgi,goi->mgo", x, weight) + bias
    torch.testing.assert_close(layer(x), expected)
    (layer(x) * direction).sum().backward()
    (expected * direction).sum().backward()
    gradients = {name: parameter.grad for name, parameter in layer.named_parameters() if parameter.grad is not None}
    own = torch.cat([gradients["weight"].flatten(1), gradients["bias"]], dim=1)
    common = torch.cat([gradients["common_weight"].flatten(), gradients["common_bias"]])
    torch.testing.assert_close(own.T, dense.weight.grad)
    torch.testing.assert_close(common, dense.bias.grad)


@pytest.mark.parametrize("n_members", [5, 6, 8, 9])
def test_the_mlp_form_starts_larger_than_orthogonal_weights(n_members: int) -> None:
    layer = scheme("mlp", n_members).linear(64, 64, gain=1.0)
    assert isinstance(layer, MlpHypernet)
    rms = layer.effective_weight().detach().square().mean().sqrt() / 64**-0.5
    assert 2.6 * 0.9 < rms < 3.6 * 1.1
    assert float(rms) == pytest.approx((64 / max(4, n_members)) ** 0.5, rel=0.15)
    assert (layer.effective_bias() == 0).all()


def test_the_mlp_form_equals_a_loop_over_members() -> None:
    layer = scheme("mlp").linear(IN, OUT, gain=1.0)
    assert isinstance(layer, MlpHypernet)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * draw(*parameter.shape))
    x, y = draw(7, G, IN), []
    for member, embedding in enumerate(layer.embedding):
        of_weight, of_bias = (
            torch.relu(embedding @ h + b[0]) for h, b in zip(layer.hidden, layer.hidden_bias, strict=True)
        )
        weight = sum(a * head for a, head in zip(of_weight, layer.weight, strict=True)) + layer.common_weight
        y.append(x[:, member] @ weight.T + of_bias @ layer.bias + layer.common_bias)
    torch.testing.assert_close(layer(x), torch.stack(y, dim=1), rtol=1e-4, atol=1e-5)


def test_a_network_has_one_embedding_whose_rows_are_the_members_own() -> None:
    network = GroupedMlp(scheme("mlp"), IN, OUT, NetworkConfig((16, 16)))
    layers = [module for module in network.modules() if isinstance(module, MlpHypernet)]
    embedding = layers[0].embedding
    assert len(layers) == 3 and all(layer.embedding is embedding for layer in layers)
    names = [name for name, _ in network.named_parameters()]
    assert len([name for name in names if name.endswith("embedding")]) == 1
    (network(draw(7, G, IN))[:, 1] * draw(7, OUT)).sum().backward()
    assert embedding.grad is not None
    assert (embedding.grad[1] != 0).any() and (embedding.grad[[0, 2]] == 0).all()


def test_the_mlp_form_makes_one_member_of_a_type() -> None:
    sharing = HypernetSharing(HypernetConfig("mlp"), (0, 0, 1), generator())
    layer = sharing.linear(IN, OUT, gain=1.0)
    y = layer(draw(6, 1, IN).expand(6, G, IN))
    assert torch.equal(y[:, 0], y[:, 1]) and not torch.allclose(y[:, 0], y[:, 2])
