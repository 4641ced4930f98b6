"""Does a grouped GRU compute what PyTorch's does, forget where it should, and keep members apart?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mg2l_kalei.networks import Memory, NetworkConfig, RecurrentMlp
from mg2l_kalei.networks.gru_scan import GruScan
from mg2l_kalei.networks.recurrent import GroupedGru
from mg2l_kalei.sharing import SHARINGS
from mg2l_kalei.sharing.base import GroupedLinear
from mg2l_kalei.sharing.masked_linear import MaskedLinear, masked_layers
from tests.small_systems import draw, generator

L, S, G, IN, SIZE, OUT = 7, 5, 3, 4, 8, 2
CONFIG = NetworkConfig(hidden=(SIZE, 6), activation="tanh")


def scheme(kind: str) -> Any:
    sharing, config = SHARINGS[kind]
    return sharing(config, range(G), generator())


def network(kind: str) -> RecurrentMlp:
    return RecurrentMlp(scheme(kind), IN, OUT, CONFIG)


def starts(*steps: int) -> Tensor:
    """(L, S): the first row starts anew before these steps, others never."""
    start = torch.zeros(L, S, dtype=torch.bool)
    start[list(steps), 0] = True
    return start


def test_it_is_pytorchs_gru() -> None:
    gru, reference = GroupedGru(scheme("full"), IN, SIZE), nn.GRU(IN, SIZE)
    with torch.no_grad():
        for ours, theirs in ((gru.input, "ih"), (gru.recurrence, "hh")):
            ours.bias.copy_(draw(3 * SIZE))
            getattr(reference, f"weight_{theirs}_l0").copy_(ours.weight)
            getattr(reference, f"bias_{theirs}_l0").copy_(ours.bias)
    x, state = draw(L, S, G, IN), draw(S, G, SIZE, seed=1)
    expected, _ = reference(x.flatten(1, 2), state.flatten(0, 1)[None])
    torch.testing.assert_close(gru(x, Memory(state)).flatten(1, 2), expected)


@pytest.mark.parametrize("kind", SHARINGS)
def test_a_start_forgets_and_leaves_other_rows_alone(kind: str) -> None:
    body, x, state = network(kind), draw(L, S, G, IN), draw(S, G, SIZE, seed=1)
    y, states = body(x, Memory(state, starts(3)))
    without, _ = body(x, Memory(state))
    afresh, _ = body(x[3:], Memory(torch.zeros_like(state)))
    torch.testing.assert_close(y[:, 1:], without[:, 1:])
    torch.testing.assert_close(y[:3], without[:3])
    torch.testing.assert_close(y[3:, 0], afresh[:, 0])
    assert not torch.allclose(y[3, 0], without[3, 0], atol=1e-5)
    assert states.shape == (L, S, G, SIZE) and y.shape == (L, S, G, OUT)


@pytest.mark.parametrize("kind", SHARINGS)
def test_a_sequence_is_its_steps_one_by_one(kind: str) -> None:
    body, x, state = network(kind), draw(L, S, G, IN), draw(S, G, SIZE, seed=1)
    whole, states = body(x, Memory(state, starts(2, 5)))
    for t in range(L):
        state = state * ~starts(2, 5)[t, :, None, None]
        y, after = body(x[t : t + 1], Memory(state))
        torch.testing.assert_close(y[0], whole[t])
        state = after[0]
        torch.testing.assert_close(state, states[t])


@pytest.mark.parametrize("kind", SHARINGS)
def test_members_do_not_hear_each_other(kind: str) -> None:
    body, x, memory = network(kind), draw(L, S, G, IN), Memory(torch.zeros(S, G, SIZE))
    other = x.clone()
    other[:, :, 0] += 1
    one, two = body(x, memory)[0], body(other, memory)[0]
    assert torch.equal(one[:, :, 1:], two[:, :, 1:]) and not torch.allclose(one[:, :, 0], two[:, :, 0])


def test_the_gru_is_not_masked_and_the_layer_before_it_not_reset() -> None:
    body = network("kaleidoscope")
    masked = [layer.role.is_resettable for layer in masked_layers(body)]
    assert masked == [False, True, True]
    assert not any(isinstance(module, MaskedLinear) for module in body.gru.modules())


def test_gradients_reach_every_weight_through_time() -> None:
    body, state = network("independent"), torch.zeros(S, G, SIZE)
    x = draw(L, S, G, IN).requires_grad_()
    body(x, Memory(state))[0][-1].sum().backward()
    assert x.grad is not None and (x.grad[0] != 0).any()
    assert all(p.grad is not None and (p.grad != 0).any() for p in body.parameters())


@pytest.mark.parametrize("kind", SHARINGS)
def test_gradients_of_a_sequence_are_those_of_its_steps(kind: str) -> None:
    gru, start = GroupedGru(scheme(kind), IN, SIZE), starts(0, 3)
    x, state = draw(L, S, G, IN).requires_grad_(), draw(S, G, SIZE, seed=1).requires_grad_()
    weight = draw(L, S, G, SIZE, seed=2)
    wanted = [x, state, *gru.parameters()]
    whole = torch.autograd.grad((gru(x, Memory(state, start)) * weight).sum(), wanted)
    states, remembered = [], state
    for t in range(L):
        remembered = gru(x[t : t + 1], Memory(remembered, start[t : t + 1]))[0]
        states.append(remembered)
    for ours, theirs in zip(whole, torch.autograd.grad((torch.stack(states) * weight).sum(), wanted), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("forgets", [False, True])
def test_the_gradient_written_by_hand_is_that_of_finite_differences(forgets: bool) -> None:
    def doubles(*shape: int, seed: int) -> Tensor:
        return draw(*shape, seed=seed).double().requires_grad_()

    kept = (~starts(2)).double()[:, None, :, None] if forgets else None
    x, state = doubles(L, G, S, 6, seed=0), doubles(G, S, 2, seed=1)
    weight, bias = doubles(G, 2, 6, seed=2), doubles(G, 1, 6, seed=3)
    assert torch.autograd.gradcheck(lambda *a: GruScan.apply(a[0], a[1], kept, a[2], a[3]), (x, state, weight, bias))


@pytest.mark.parametrize("kind", SHARINGS)
def test_a_layer_tells_the_matrices_that_it_multiplies_by(kind: str) -> None:
    layer, x = scheme(kind).linear(IN, OUT, gain=1.0), draw(S, G, IN)
    torch.nn.init.normal_(layer.bias, generator=generator())
    matrix, bias = layer.matrices(G)
    read_off, shift = GroupedLinear.matrices(layer, G)  # as schemes have it that say nothing
    for weight, constant in ((matrix, bias), (read_off, shift)):
        torch.testing.assert_close((x.transpose(0, 1) @ weight + constant).transpose(0, 1), layer(x))


def test_without_gradients_nothing_is_kept_and_states_are_the_same() -> None:
    gru, start = GroupedGru(scheme("full"), IN, SIZE), starts(0, 3)
    x, state = draw(L, S, G, IN), draw(S, G, SIZE, seed=1)
    with torch.no_grad():
        alone = gru(x, Memory(state, start))
    torch.testing.assert_close(alone, gru(x, Memory(state, start)))
