"""Do agents of one type share what is a member's own, and agents of different types not?"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from envs.core import EnvSpec
from mg2l_kalei.networks import GroupedMlp, NetworkConfig
from mg2l_kalei.sharing import SHARINGS, GroupedLinear, MemberFigure, ParameterSharing
from mg2l_kalei.sharing.base import LayerRole
from mg2l_kalei.sharing.kaleidoscope import KaleidoscopeConfig, KaleidoscopeSharing
from mg2l_kalei.sharing.masked_linear import MaskedLinear
from tests.small_systems import CONTINUOUS, draw, generator

TYPES, N, IN, OUT = (0, 0, 1), 3, 5, 4
SPEC = CONTINUOUS._replace(agent_types=TYPES)
KINDS = [kind for kind, (_, config) in SHARINGS.items() if hasattr(config, "members")]
every_kind = pytest.mark.parametrize("kind", KINDS)


def scheme(kind: str, members: tuple[int, ...] = TYPES) -> ParameterSharing:
    """Kaleidoscope's thresholds near the size of weights, so that masks differ visibly."""
    sharing_class, config = SHARINGS[kind]
    if isinstance(config, KaleidoscopeConfig):
        config = KaleidoscopeConfig(threshold_bias=0.5, threshold_scale=2.0)
    return sharing_class(config, members, generator())


def linear(kind: str, members: tuple[int, ...] = TYPES) -> GroupedLinear:
    """A network's last layer, which is some member's own in all schemes, after some training."""
    layer = scheme(kind, members).linear(IN, OUT, gain=1.0, role=LayerRole(is_output=True))
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters()):
            parameter.add_(draw(*parameter.shape, seed=seed + 7))
    return layer


def of_places(layer: GroupedLinear) -> tuple[Tensor, Tensor]:
    """The matrix (N, OUT, IN) and bias (N, OUT) of each place, read off its responses to unit vectors."""
    bias = layer(torch.zeros(N, IN))
    return (layer(torch.eye(IN).unsqueeze(1).expand(IN, N, IN)) - bias).permute(1, 2, 0), bias


@pytest.mark.parametrize(
    ("members", "types", "expected"),
    [
        ("agents", (0, 0, 1), (0, 1, 2)),
        ("types", (0, 0, 1), (0, 0, 1)),
        ("types", (1, 0, 1), (1, 0, 1)),
        ("types", (), (0, 0, 0)),
    ],
)
@every_kind
def test_the_member_that_each_agent_is(
    kind: str, members: str, types: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    sharing_class, default = SHARINGS[kind]
    spec: EnvSpec = CONTINUOUS._replace(agent_types=types)
    assert tuple(sharing_class.members_of(dataclasses.replace(default, members=members), spec)) == expected


@every_kind
def test_types_that_are_drawn_for_each_episode_are_members_themselves(kind: str) -> None:
    sharing_class, default = SHARINGS[kind]
    spec = CONTINUOUS._replace(type_columns=(0, 2))
    assert tuple(sharing_class.members_of(dataclasses.replace(default, members="types"), spec)) == (0, 1)
    assert tuple(sharing_class.members_of(default, spec)) == tuple(sharing_class.members_of(default, CONTINUOUS))


@every_kind
def test_places_of_one_type_share_weights_and_of_different_types_do_not(kind: str) -> None:
    layer = linear(kind)
    weights, biases = of_places(layer)
    assert torch.equal(weights[0], weights[1]) and torch.equal(biases[0], biases[1])
    assert (weights[0] - weights[2]).norm() > 0.1 * weights[0].norm()
    assert {len(value) for name, value in layer.state_dict().items() if name != "places"} <= {2, IN, OUT}


@every_kind
@pytest.mark.parametrize("leading", [(), (7,), (2, 3)])
def test_grouped_equals_a_loop_over_places(kind: str, leading: tuple[int, ...]) -> None:
    layer, x = linear(kind), draw(*leading, N, IN)
    weights, biases = of_places(layer)
    loop = torch.stack([F.linear(x[..., n, :], weights[n], biases[n]) for n in range(N)], dim=-2)
    torch.testing.assert_close(layer(x), loop, rtol=1e-5, atol=1e-6)


@every_kind
def test_the_gradient_of_a_type_is_the_sum_over_its_agents(kind: str) -> None:
    x, direction = draw(6, N, IN), draw(6, N, OUT, seed=3)

    def gradients(places: list[int]) -> dict[str, Tensor]:
        layer = linear(kind)
        (layer(x)[:, places] * direction[:, places]).sum().backward()
        return {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}

    whole, parts = gradients([0, 1, 2]), [gradients([place]) for place in range(N)]
    for name, gradient in whole.items():
        torch.testing.assert_close(gradient, sum(part[name] for part in parts), rtol=1e-5, atol=1e-5)
        assert all((part[name] != 0).any() for part in parts), name
        if len(gradient) == 2:  # a matrix or vector, or thresholds, of each type
            assert all((part[name][1] == 0).all() for part in parts[:2]), name
            assert (parts[2][name][0] == 0).all(), name


@every_kind
def test_a_vector_is_its_types_own(kind: str) -> None:
    vector = scheme(kind).vector(OUT, 0.5)
    (vector().expand(N, OUT)[1] * draw(OUT)).sum().backward()
    (gradient,) = (parameter.grad for parameter in vector.parameters())
    assert gradient is not None
    assert vector.value.shape in ((OUT,), (2, OUT))
    if vector.value.dim() == 2:
        assert (gradient[0] != 0).all() and (gradient[1] == 0).all()
        with torch.no_grad():
            vector.value[1] = 2.0
        assert vector()[:, 0].tolist() == [0.5, 0.5, 2.0]


@pytest.mark.parametrize("place_id", [False, True], ids=["no number", "each its number"])
@every_kind
def test_a_network_acts_alike_for_agents_of_a_type_that_do_not_know_who_they_are(kind: str, place_id: bool) -> None:
    config = NetworkConfig(hidden=(16, 16), layer_norm=True, activation="gelu")
    network = GroupedMlp(scheme(kind), IN, OUT, config, place_id=place_id)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * draw(*parameter.shape))
    y = network(draw(6, 1, IN).expand(6, N, IN))
    assert torch.allclose(y[:, 0], y[:, 1], atol=1e-5) != place_id
    assert not torch.allclose(y[:, 0], y[:, 2], atol=1e-2)


@every_kind
def test_a_team_of_one_type_is_one_member(kind: str) -> None:
    sharing = scheme(kind, (0, 0, 0))
    layer = sharing.linear(IN, OUT, gain=1.0)
    weights, _ = of_places(layer)
    assert (sharing.n_places, sharing.n_members) == (3, 1)
    assert torch.equal(weights[0], weights[1]) and torch.equal(weights[1], weights[2])
    assert sharing.loss(layer, torch.tensor(1.0))[0] == 0


def test_masks_are_counted_and_drawn_by_type() -> None:
    sharing = scheme("kaleidoscope")
    assert isinstance(sharing, KaleidoscopeSharing)
    layer = sharing.linear(IN, OUT, gain=1.0)
    assert isinstance(layer, MaskedLinear)
    metrics, (figure,) = sharing.metrics(layer), sharing.figures(layer)
    assert set(metrics) == {
        "sharing/sparsity",
        "sharing/sparsity_0",
        "sharing/sparsity_1",
        "sharing/flops",
        "sharing/mask_difference",
        "sharing/mask_difference_0_1",
    }
    masks = layer.masks().float()
    differing = float((masks[0] - masks[1]).abs().mean())
    assert float(metrics["sharing/mask_difference_0_1"]) == pytest.approx(differing)
    assert float(metrics["sharing/mask_difference"]) == pytest.approx(differing)
    assert float(metrics["sharing/sparsity_1"]) == pytest.approx(1 - float(masks[1].mean()))
    assert isinstance(figure, MemberFigure)
    assert figure.pairs.shape == (2, 2) and figure.each.shape == (2,)


def test_the_diversity_of_types_is_that_of_as_many_agents() -> None:
    of_types, of_agents = scheme("kaleidoscope"), scheme("kaleidoscope", (0, 1))
    losses = [s.loss(s.linear(IN, OUT, gain=1.0), torch.tensor(1.0))[0] for s in (of_types, of_agents)]
    assert losses[0] == losses[1] and losses[0] < 0


def test_frozen_weights_are_those_of_each_agents_type() -> None:
    sharing, x = scheme("kaleidoscope"), draw(6, N, IN)
    layer = sharing.linear(IN, OUT, gain=1.0)
    with sharing.frozen(layer), torch.no_grad():
        frozen = layer(x)
    assert torch.equal(frozen, layer(x))


def test_types_that_are_numbered_with_gaps_make_no_members_that_nobody_is() -> None:
    """PettingZoo numbers a type by its first agent: three adversaries and an agent are 0, 0, 0, 3."""
    spec = CONTINUOUS._replace(n_agents=4, agent_types=(0, 0, 0, 3))
    for kind in KINDS:
        sharing_class, config = SHARINGS[kind]
        assert tuple(sharing_class.members_of(dataclasses.replace(config, members="types"), spec)) == (0, 0, 0, 1)
