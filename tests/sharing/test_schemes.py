"""What every sharing scheme owes: looped over the registry, so a new scheme is tested by existing."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from mg2l_kalei.sharing import SHARINGS, GroupedLinear, ParameterSharing
from mg2l_kalei.sharing.base import FormedLinear, LayerRole
from mg2l_kalei.types import Clock

G, IN, OUT = 3, 5, 4
UNMASKED = LayerRole(is_masked=False)


def make(kind: str, seed: int = 0, n_members: int = G) -> ParameterSharing:
    sharing_class, config = SHARINGS[kind]
    return sharing_class(config, range(n_members), torch.Generator().manual_seed(seed))


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def member_matrices(layer: GroupedLinear) -> tuple[Tensor, Tensor]:
    """Each member's own matrix (G, OUT, IN) and bias (G, OUT), read off its responses to unit vectors."""
    bias = layer(torch.zeros(G, IN))
    responses = layer(torch.eye(IN).unsqueeze(1).expand(IN, G, IN)) - bias  # (IN, G, OUT)
    return responses.permute(1, 2, 0), bias


@pytest.mark.parametrize("kind", SHARINGS)
@pytest.mark.parametrize("leading", [(), (7,), (6, 2), (2, 3, 4)])
def test_grouped_equals_a_loop_over_members(kind: str, leading: tuple[int, ...]) -> None:
    layer = make(kind).linear(IN, OUT, gain=1.0)
    with torch.no_grad():
        for parameter in layer.parameters():  # biases are zero at first
            parameter.add_(draw(*parameter.shape))
    x = draw(*leading, G, IN)
    weights, biases = member_matrices(layer)
    loop = torch.stack([F.linear(x[..., g, :], weights[g], biases[g]) for g in range(G)], dim=-2)
    torch.testing.assert_close(layer(x), loop, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 0.7, 8.0])
@pytest.mark.parametrize("kind", SHARINGS)
def test_outputs_are_rescaled_by_changing_parameters(kind: str, scale: float) -> None:
    """So that the layer goes on to learn as one that was made so."""
    layer, x = make(kind).linear(IN, OUT, gain=1.0), draw(7, G, IN)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.add_(draw(*parameter.shape) * (name != "thresholds"))
    before = layer(x)
    layer.rescale(torch.tensor([scale]), torch.tensor([0.3]))
    torch.testing.assert_close(layer(x), scale * before + 0.3, rtol=1e-4, atol=1e-6)


def test_thresholds_stay_finite_however_small_or_large_they_become() -> None:
    layer = make("kaleidoscope").linear(IN, OUT, gain=1.0)
    with torch.no_grad():
        dict(layer.named_parameters())["thresholds"][0] = -200.0
    for scale in (1e-20, 1e20):
        layer.rescale(torch.tensor([scale]), torch.zeros(1))
        assert all(parameter.isfinite().all() for parameter in layer.parameters())


@pytest.mark.parametrize("kind", SHARINGS)
def test_a_member_sees_only_its_own_row(kind: str) -> None:
    layer = make(kind).linear(IN, OUT, gain=1.0)
    x = draw(6, G, IN).requires_grad_()
    (layer(x)[:, 1] * draw(6, OUT)).sum().backward()
    assert x.grad is not None
    heard = (x.grad[:, 1] != 0).all(0)
    assert heard.all() if kind != "snp" else heard.any()  # whose members do not hear all neurons
    assert (x.grad[:, [0, 2]] == 0).all()


@pytest.mark.parametrize("kind", SHARINGS)
def test_gradients_of_parameters_are_those_that_differences_show(kind: str) -> None:
    layer = make(kind).linear(IN, OUT, gain=1.0).double()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.add_(0.3 * draw(*parameter.shape).double() + 3.0 * (name == "thresholds"))
    names, values = zip(*layer.named_parameters(), strict=True)
    assert len(names) >= 2
    x = draw(2, G, IN).double()
    torch.autograd.gradcheck(lambda *own: functional_call(layer, dict(zip(names, own, strict=True)), (x,)), values)


def test_an_independent_members_gradient_stays_its_own() -> None:
    sharing = make("independent")
    layer, vector = sharing.linear(IN, OUT, gain=1.0), sharing.vector(OUT, 0.5)
    ((layer(draw(6, G, IN)) + vector())[:, 1] * draw(6, OUT)).sum().backward()
    for parameter in (*layer.parameters(), *vector.parameters()):
        assert parameter.grad is not None
        assert (parameter.grad[1] != 0).all()
        assert (parameter.grad[[0, 2]] == 0).all()


OWN = {  # what is each member's own, first axis; a new scheme says here what its hidden and its last layer have
    "full": (set(), set()),
    "heads": (set(), {"weight", "bias"}),
    "hypernet": ({"weight", "bias"}, {"weight", "bias"}),
    "independent": ({"weight", "bias"}, {"weight", "bias"}),
    "kaleidoscope": ({"thresholds"}, {"thresholds"}),
    "kaleidoscope_published": ({"thresholds"}, {"thresholds"}),
    "low_rank": ({"up", "down"}, {"up", "down"}),
    "seps": ({"weight", "bias"}, {"weight", "bias"}),
    "snp": (set(), set()),
}


@pytest.mark.parametrize("is_output", [False, True])
@pytest.mark.parametrize("kind", SHARINGS)
def test_what_a_member_has_of_its_own_is_moved_by_it_alone(kind: str, is_output: bool) -> None:
    layer = make(kind).linear(IN, OUT, gain=1.0, role=LayerRole(is_output=is_output))
    with torch.no_grad():
        for name, parameter in layer.named_parameters():  # what is zero at first lets no gradient through
            parameter.add_(0.3 * draw(*parameter.shape) + 3.0 * (name == "thresholds"))
    (layer(draw(6, G, IN))[:, 1] * draw(6, OUT)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in layer.named_parameters()}
    assert OWN[kind][is_output] == set(getattr(layer, "of_members", ()))
    for name, gradient in gradients.items():
        assert gradient is not None and (gradient != 0).any()
        if name in OWN[kind][is_output]:
            assert len(gradient) == G and (gradient[1] != 0).any() and (gradient[[0, 2]] == 0).all()


def test_members_of_low_rank_add_their_own_matrix_to_the_shared_one() -> None:
    layer = make("low_rank").linear(IN, OUT, gain=1.0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(draw(*parameter.shape))
    weight, up, down, bias = (dict(layer.named_parameters())[name] for name in ("weight", "up", "down", "bias"))
    x = draw(7, G, IN)
    for g in range(G):
        expected = x[:, g] @ weight.T + (x[:, g] @ down[g].T) @ up[g].T + bias
        torch.testing.assert_close(layer(x)[:, g], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", SHARINGS)
def test_who_shares_a_matrix_with_whom(kind: str) -> None:
    same, apart = (0.0, 1e-6), (0.5, 2.0)
    expected = {  # of hidden layers, and of the last; a new scheme says here how alike its members begin
        "full": (same, same),
        "heads": (same, apart),
        "hypernet": (apart, apart),
        "independent": (apart, apart),
        "kaleidoscope": ((1e-4, 0.05), (1e-4, 0.05)),  # almost dense
        "kaleidoscope_published": ((1e-4, 0.05), (1e-4, 0.05)),
        "low_rank": (same, same),
        "seps": (apart, apart),
        "snp": (apart, apart),
    }
    for is_output, (low, high) in enumerate(expected[kind]):
        weights, _ = member_matrices(make(kind).linear(IN, OUT, gain=1.0, role=LayerRole(is_output=bool(is_output))))
        assert low <= (weights[0] - weights[1]).norm() / weights[0].norm() <= high


@pytest.mark.parametrize("kind", SHARINGS)
def test_unmasked_weights_are_orthogonal_times_gain_and_bias_is_zero(kind: str) -> None:
    weights, bias = member_matrices(make(kind).linear(IN, OUT, gain=3.0, role=UNMASKED))
    expected = 9.0 * torch.eye(OUT).expand(G, OUT, OUT)
    torch.testing.assert_close(weights @ weights.mT, expected, rtol=0, atol=1e-4)
    assert (bias == 0).all()


@pytest.mark.parametrize("kind", SHARINGS)
def test_initial_weights_come_from_the_given_generator_alone(kind: str) -> None:
    first, again, other = (make(kind, seed).linear(IN, OUT, gain=1.0).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["weight"], other["weight"])


@pytest.mark.parametrize("kind", SHARINGS)
def test_frozen_weights_are_those_that_they_were_formed_from(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sharing = make(kind)
    layer, x = sharing.linear(IN, OUT, gain=1.0), draw(6, G, IN)
    torch.nn.init.normal_(layer.bias, generator=torch.Generator().manual_seed(3))
    expected, formed = layer(x), layer.matrices(G)
    with torch.no_grad(), sharing.frozen(layer), monkeypatch.context() as patch:
        if isinstance(layer, FormedLinear):  # formed once, and no more
            patch.delattr(type(layer), "effective_weight")
        frozen, at_hand = layer(x), layer.matrices(G)
    assert torch.equal(frozen, expected) and torch.equal(layer(x), expected)
    assert all(torch.equal(one, other) for one, other in zip(at_hand, formed, strict=True))


@pytest.mark.parametrize("kind", SHARINGS)
def test_every_parameter_is_in_exactly_one_optimiser_group(kind: str) -> None:
    sharing = make(kind)
    network = torch.nn.Sequential(sharing.linear(IN, OUT, gain=1.0), sharing.linear(OUT, OUT, gain=1.0, role=UNMASKED))
    grouped = [id(parameter) for group in sharing.parameter_groups(network) for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in network.parameters())


@pytest.mark.parametrize("kind", SHARINGS)
def test_a_vector_broadcasts_over_members_and_learns(kind: str) -> None:
    vector = make(kind).vector(OUT, -0.5)
    assert torch.equal(vector().expand(G, OUT), torch.full((G, OUT), -0.5))
    assert [parameter.requires_grad for parameter in vector.parameters()] == [True]


@pytest.mark.parametrize("kind", SHARINGS)
def test_a_restored_scheme_goes_on_as_the_saved_one(kind: str) -> None:
    saved, restored = make(kind), make(kind, seed=5)
    network = saved.linear(IN, OUT, gain=1.0)
    optimiser = torch.optim.Adam(network.parameters())
    for step in range(130):  # longer than any history kept
        saved.loss(network, torch.tensor(math.sin(step)))
    saved.on_env_steps(network, optimiser, Clock(0, 10**7), torch.Generator().manual_seed(0))
    state = copy.deepcopy(saved.state_dict())
    expected = saved.loss(network, torch.tensor(0.3))[0]
    restored.load_state_dict(state)
    assert torch.equal(restored.loss(network, torch.tensor(0.3))[0], expected)
    assert restored.on_env_steps(network, optimiser, Clock(0, 10**7), torch.Generator().manual_seed(0)) == {}


@pytest.mark.parametrize("kind", SHARINGS)
def test_a_saved_state_does_not_change_with_its_scheme(kind: str) -> None:
    sharing = make(kind)
    network = sharing.linear(IN, OUT, gain=1.0)
    state = sharing.state_dict()
    before = copy.deepcopy(state)
    sharing.loss(network, torch.tensor(2.0))
    torch.testing.assert_close(state, before, rtol=0, atol=0)


@pytest.mark.parametrize("kind", SHARINGS)
def test_a_group_of_one_works(kind: str) -> None:
    sharing = make(kind, n_members=1)
    layer = sharing.linear(IN, OUT, gain=1.0)
    loss, _ = sharing.loss(layer, torch.tensor(1.0))
    assert loss == 0
    assert layer(draw(2, 1, IN)).shape == (2, 1, OUT)
    assert all(torch.as_tensor(value).isfinite() for value in sharing.metrics(layer).values())
