"""Is the masked layer the published one, and can its kept weights never be old ones?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mg2l_kalei.sharing.base import frozen
from mg2l_kalei.sharing.kaleidoscope import KaleidoscopeConfig, KaleidoscopeSharing, layer_sparsity
from mg2l_kalei.sharing.masked_linear import MaskedLinear, PairwiseMaskDifference

Golden = dict[str, Tensor]


@pytest.fixture
def golden() -> Golden:
    """One layer of the released implementation: 6 -> 5, 3 agents, 4 rows."""
    path = Path(__file__).parents[1] / "golden" / "kalei_linear_3agents.npz"
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


def layer_of(golden: Golden) -> MaskedLinear:
    layer = MaskedLinear(golden["weight"].clone(), golden["thresholds"].clone())
    with torch.no_grad():
        layer.bias.copy_(golden["bias"])
    return layer


def random_layer(seed: int = 0, n_members: int = 3) -> MaskedLinear:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 6, generator=generator)
    return MaskedLinear(weight, torch.randn(n_members, 5, 6, generator=generator))


def close(actual: Tensor | None, expected: Tensor, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    assert actual is not None
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol, check_dtype=False)


def test_forward_and_gradients_are_the_reference_ones(golden: Golden) -> None:
    layer = layer_of(golden)
    x = golden["x"].clone().requires_grad_()
    y = layer(x)
    y.backward(golden["grad_y"])
    close(y, golden["y"])
    close(layer.weight.grad, golden["grad_weight"])
    close(layer.thresholds.grad, golden["grad_thresholds"])
    close(layer.bias.grad, golden["grad_bias"])


def test_sparsity_is_the_reference_one(golden: Golden) -> None:
    close(layer_sparsity(layer_of(golden))[""], golden["sparsity_per_agent"])


def test_diversity_and_its_gradient_are_the_reference_ones(golden: Golden) -> None:
    layer = layer_of(golden)
    sharing = KaleidoscopeSharing(
        # beta and a floor under which the coefficient is exactly 1, as in the reference's loss, -J_div
        KaleidoscopeConfig(diversity_coef=1.0, diversity_floor=1.0),
        range(3),
        torch.Generator(),
    )
    loss, metrics = sharing.loss(layer, torch.tensor(1.0))
    loss.backward()
    assert metrics["sharing/coefficient"] == 1.0
    close(loss, golden["diversity_loss"], rtol=1e-6)
    close(layer.thresholds.grad, golden["diversity_grad_thresholds"], atol=1e-9)
    assert layer.weight.grad is None  # the reference's is zero
    assert (golden["diversity_grad_weight"] == 0).all()


@pytest.mark.parametrize("n_members", [1, 2, 3, 6])
@pytest.mark.parametrize("scale", [1e-6, 0.1, 3.0])
def test_diversity_equals_the_loop_over_pairs(n_members: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(n_members)
    margin = torch.randn(n_members, 5, 6, generator=generator).requires_grad_()
    upstream = scale * torch.randn(5, 6, generator=generator)
    difference = PairwiseMaskDifference.apply(margin)
    difference.backward(upstream)

    masks = (margin.detach() > 0).float().requires_grad_()
    pairs = sum((masks[i] - masks[j]).abs() for i in range(n_members) for j in range(n_members))
    assert isinstance(pairs, Tensor)
    pairs.backward(upstream)
    assert masks.grad is not None
    assert torch.equal(difference, pairs)
    close(margin.grad, masks.grad.tanh(), atol=1e-9)


def test_the_incoming_gradient_is_not_mutated() -> None:
    margin = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    upstream = torch.full((5, 6), 2.0)
    PairwiseMaskDifference.apply(margin).backward(upstream)
    assert (upstream == 2.0).all()


def test_masked_weights_get_no_gradient_and_kept_ones_shrink() -> None:
    layer = random_layer()
    effective = layer.effective_weight()
    masks = layer.masks()
    assert 0 < masks.float().mean() < 1
    assert (effective[~masks] == 0).all()
    assert (effective.abs()[masks] < layer.weight.abs().expand_as(masks)[masks]).all()
    for member in range(len(masks)):
        (gradient,) = torch.autograd.grad(effective[member].sum(), layer.weight, retain_graph=True)
        assert torch.equal(gradient != 0, masks[member])


def in_place(layer: MaskedLinear) -> None:
    with torch.no_grad():
        layer.thresholds[1, 2, 3] += 1.0
        layer.weight[2, 3] = 5.0


def fused_adam(layer: MaskedLinear) -> None:
    """Changes parameters without raising their version."""
    with torch.enable_grad():
        layer(torch.ones(2, 3, 6)).sum().backward()
    torch.optim.Adam(layer.parameters(), lr=0.1, fused=True).step()


def load(layer: MaskedLinear) -> None:
    layer.load_state_dict(random_layer(seed=1).state_dict())


CHANGES = {"in place": in_place, "fused Adam": fused_adam, "loaded": load}


@pytest.mark.parametrize("change", CHANGES)
def test_weights_are_never_old_ones_after_a_frozen_block(change: str) -> None:
    layer, x = random_layer(), torch.ones(2, 3, 6)
    with torch.no_grad():
        with frozen(layer):
            before = layer(x)
        CHANGES[change](layer)
        after = layer(x)
        with frozen(layer):
            frozen_again = layer(x)
    assert not torch.equal(after, before)
    assert torch.equal(after, layer(x))
    assert torch.equal(after, frozen_again)


@pytest.mark.parametrize("change", CHANGES)
def test_changing_frozen_weights_is_an_error(change: str) -> None:
    layer = random_layer()
    with pytest.raises(RuntimeError, match="changed while they were frozen"), frozen(layer):
        CHANGES[change](layer)


def test_an_error_inside_a_frozen_block_ends_it() -> None:
    layer = random_layer()
    with pytest.raises(ZeroDivisionError), frozen(layer):
        raise ZeroDivisionError
    assert layer.frozen_weights is None


def test_no_weights_are_formed_while_acting_on_frozen_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = random_layer(), torch.ones(2, 3, 6)
    expected = layer(x)

    def refuse(layer: MaskedLinear) -> Tensor:
        raise AssertionError("formed again")

    with torch.no_grad(), frozen(layer), monkeypatch.context() as patch:
        patch.setattr(MaskedLinear, "effective_weight", refuse)
        acted = [layer(x) for _ in range(3)]
    assert all(torch.equal(y, expected) for y in acted)


def test_freezing_leaves_training_its_gradients() -> None:
    layer = random_layer()
    with frozen(layer):
        layer(torch.ones(2, 3, 6)).sum().backward()
    assert layer.thresholds.grad is not None
    assert (layer.thresholds.grad != 0).any()
