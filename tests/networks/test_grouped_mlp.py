"""Does the MLP keep members apart, and does the scheme decide what they share?"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mg2l_kalei.networks import GroupedMlp, NetworkConfig
from mg2l_kalei.networks.mlp import ACTIVATIONS
from mg2l_kalei.sharing import SHARINGS

G, IN, OUT = 3, 5, 2


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mlp(
    kind: str, config: NetworkConfig | None = None, *, output_gain: float = 1.0, place_id: bool = True
) -> GroupedMlp:
    sharing_class, sharing_config = SHARINGS[kind]
    sharing = sharing_class(sharing_config, range(G), generator())
    config = config or NetworkConfig(activation="gelu")
    return GroupedMlp(sharing, IN, OUT, config, output_gain=output_gain, place_id=place_id)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(1))


@pytest.mark.parametrize("kind", SHARINGS)
@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_members_output_depends_on_its_own_row_alone(kind: str, layer_norm: bool) -> None:
    network = mlp(kind, NetworkConfig(hidden=(16, 16), activation="gelu", layer_norm=layer_norm))
    x = draw(4, 2, G, IN).requires_grad_()
    (network(x)[..., 1, :] * draw(4, 2, OUT)).sum().backward()
    assert x.grad is not None
    assert (x.grad[..., 1, :] != 0).all()
    assert (x.grad[..., [0, 2], :] == 0).all()


@pytest.mark.parametrize("kind", SHARINGS)
@pytest.mark.parametrize("place_id", [False, True])
def test_who_acts_alike_on_the_same_input(kind: str, place_id: bool) -> None:
    same_row = draw(4, 1, IN).expand(4, G, IN)
    y = mlp(kind, NetworkConfig(), place_id=place_id)(same_row)
    alike = torch.allclose(y[:, 0], y[:, 1], atol=1e-5)
    assert alike == (kind in ("full", "low_rank") and not place_id)  # own matrices of low rank begin with nothing


def test_no_parameter_of_independent_members_is_shared() -> None:
    network = mlp("independent")
    (network(draw(4, G, IN))[:, 1] * draw(4, OUT)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert (parameter.grad[[0, 2]] == 0).all(), name


@pytest.mark.parametrize("kind", SHARINGS)
def test_rows_of_a_batch_do_not_mix(kind: str) -> None:
    network, x = mlp(kind), draw(6, G, IN)
    alone = torch.stack([network(row) for row in x])
    torch.testing.assert_close(network(x), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", SHARINGS)
def test_a_policys_outputs_start_small(kind: str) -> None:
    x = draw(100, G, IN)
    assert mlp(kind, output_gain=0.01)(x).abs().max() < 0.1 < mlp(kind)(x).abs().max()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (8,), (8, 6, 4)])
def test_shapes(activation: str, hidden: tuple[int, ...]) -> None:
    network = mlp("full", NetworkConfig(hidden=hidden, activation=activation))
    assert network(draw(7, G, IN)).shape == (7, G, OUT)


@pytest.mark.parametrize("kind", SHARINGS)
def test_every_parameter_learns(kind: str) -> None:
    network = mlp(kind)
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-2)
    for _ in range(2):  # what a zero stands before in the first step learns in the next
        optimiser.zero_grad()
        (network(draw(50, G, IN)) * draw(50, G, OUT)).mean().backward()
        optimiser.step()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and (parameter.grad != 0).any(), name


@pytest.mark.parametrize("kind", SHARINGS)
def test_it_fits_a_different_function_for_each_member(kind: str) -> None:
    network = mlp(kind, NetworkConfig(hidden=(32, 32), activation="gelu"))
    x = draw(256, G, IN)
    target = torch.stack([x[:, g, :OUT] * math.cos(2.0 * g) for g in range(G)], dim=1)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(100):
        loss = (network(x) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.05 * target.square().mean()
