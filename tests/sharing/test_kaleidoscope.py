"""Kaleidoscope's coefficient, resets and figures."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mg2l_kalei.networks import GroupedMlp, NetworkConfig, RecurrentMlp
from mg2l_kalei.sharing.base import LayerRole
from mg2l_kalei.sharing.full import SharedLinear
from mg2l_kalei.sharing.kaleidoscope import (
    KaleidoscopeConfig,
    KaleidoscopeSharing,
    clear_moments,
    layer_sparsity,
    mask_differences,
    masked_layers,
)
from mg2l_kalei.sharing.masked_linear import MaskedLinear
from mg2l_kalei.types import Clock

G = 3


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scheme(config: KaleidoscopeConfig | None = None) -> KaleidoscopeSharing:
    return KaleidoscopeSharing(config or KaleidoscopeConfig(), range(G), generator())


def mlp(sharing: KaleidoscopeSharing) -> GroupedMlp:
    return GroupedMlp(sharing, 6, 2, NetworkConfig(hidden=(16, 16)), output_gain=0.01)


def masked_layer(sharing: KaleidoscopeSharing, *size: int, resettable: bool = True) -> MaskedLinear:
    layer = sharing.linear(*size, gain=1.0, role=LayerRole(is_resettable=resettable))
    assert isinstance(layer, MaskedLinear)
    return layer


def sparse_config(reset_probability: float = 0.1) -> KaleidoscopeConfig:
    """Thresholds near the size of the weights: about half of each mask is closed, many weights are dead."""
    return KaleidoscopeConfig(
        threshold_bias=0.5, threshold_scale=2.0, reset_interval=100, reset_probability=reset_probability
    )


def dead_weights(network: nn.Module) -> list[Tensor]:
    return [~layer.masks().any(0) for layer in masked_layers(network)]


def step_once(network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Gives every parameter entry non-zero moments."""
    for seed, parameter in enumerate(network.parameters()):
        parameter.grad = torch.randn(parameter.shape, generator=generator(seed))
    optimiser.step()


# The coefficient


def test_the_coefficient_is_beta_times_the_ratio_of_means() -> None:
    sharing = scheme(KaleidoscopeConfig(diversity_coef=0.5, diversity_floor=1e-9))
    network = mlp(sharing)
    main_losses, diversities = [0.4, -0.2, 0.3], []
    for value in main_losses:
        loss, metrics = sharing.loss(network, torch.tensor(value))
        diversities.append(float(metrics["sharing/diversity"]))
    expected = 0.5 * (0.9 / 3) / (sum(diversities) / 3)
    assert float(metrics["sharing/coefficient"]) == pytest.approx(expected, rel=1e-5)
    assert loss.item() == pytest.approx(-expected * diversities[-1], rel=1e-5)


def test_the_signed_coefficient_lets_losses_cancel() -> None:
    config = KaleidoscopeConfig(diversity_coef=0.5, main_loss_average="signed", diversity_floor=1e-9)
    sharing = scheme(config)
    network = mlp(sharing)
    for value in (0.4, -1.2, 0.3):
        _, metrics = sharing.loss(network, torch.tensor(value))
    expected = 0.5 * abs(-0.5 / 3) / float(metrics["sharing/diversity"])
    assert float(metrics["sharing/coefficient"]) == pytest.approx(expected, rel=1e-5)


def test_only_the_last_hundred_losses_count() -> None:
    sharing = scheme(KaleidoscopeConfig(diversity_floor=1.0))
    network = mlp(sharing)
    for value in [1000.0] * 50 + [2.0] * 99:
        _, metrics = sharing.loss(network, torch.tensor(value))
    assert float(metrics["sharing/coefficient"]) == pytest.approx(0.5 * (1000 + 99 * 2) / 100)
    _, metrics = sharing.loss(network, torch.tensor(2.0))
    assert float(metrics["sharing/coefficient"]) == pytest.approx(0.5 * 2)


def test_the_coefficient_is_floored_and_a_constant_to_the_gradient() -> None:
    network = mlp(scheme())
    main_loss = torch.tensor(3.0, requires_grad=True)
    loss, metrics = scheme(KaleidoscopeConfig(diversity_floor=1.0)).loss(network, main_loss)
    assert metrics["sharing/coefficient"] == 1.5
    (gradient,) = torch.autograd.grad(loss, main_loss, allow_unused=True)
    assert gradient is None


# Diversity over a whole network


def test_diversity_sums_layers_by_weight_over_all_maskable_weights() -> None:
    sharing = scheme(sparse_config())
    first = sharing.linear(4, 5, gain=1.0, role=LayerRole(weight=1.0))
    unmasked = sharing.linear(5, 5, gain=1.0, role=LayerRole(is_masked=False))
    second = sharing.linear(5, 3, gain=1.0, role=LayerRole(weight=2.0))
    assert isinstance(first, MaskedLinear) and isinstance(second, MaskedLinear)
    assert isinstance(unmasked, SharedLinear)
    _, metrics = sharing.loss(nn.Sequential(first, unmasked, second), torch.tensor(1.0))

    total = 0.0
    for weight, layer in ((1.0, first), (2.0, second)):
        for i in range(G):
            for j in range(G):
                masks = layer.masks().float()
                total += weight * (layer.weight.abs() * (masks[i] - masks[j])).abs().sum().item()
    assert total > 0
    assert float(metrics["sharing/diversity"]) == pytest.approx(total / (G * (G - 1) * (4 * 5 + 5 * 3)), rel=1e-5)


def test_layers_of_an_mlp_weigh_one_two_four() -> None:
    assert [layer.role.weight for layer in masked_layers(mlp(scheme()))] == [1.0, 2.0, 4.0]


def test_the_diversity_loss_drives_differing_masks_further_apart_and_leaves_the_rest() -> None:
    sharing = scheme(sparse_config())
    network = mlp(sharing)
    sharing.loss(network, torch.tensor(1.0))[0].backward()
    for layer in masked_layers(network):
        masks, gradient = layer.masks(), layer.thresholds.grad
        differ = masks.any(0) & ~masks.all(0)
        assert gradient is not None and differ.any() and not differ.all()
        assert (gradient[masks & differ] > 0).all()  # a step lowers the thresholds of those that use the weight
        assert (gradient[~masks & differ] < 0).all()
        assert (gradient[:, ~differ] == 0).all()
        assert layer.weight.grad is None


def test_thresholds_learn_as_fast_as_weights_under_ppos_epsilon() -> None:
    sharing = scheme()
    layer = masked_layer(sharing, 20, 20)
    optimiser = torch.optim.Adam(sharing.parameter_groups(layer), lr=1e-3, eps=1e-5)
    before = {name: parameter.detach().clone() for name, parameter in layer.named_parameters()}
    x, direction = torch.randn(64, G, 20, generator=generator(1)), torch.randn(64, G, 20, generator=generator(2))
    for _ in range(10):
        optimiser.zero_grad()
        (layer(x) * direction).mean().backward()  # about 1e-3 for weights, as a policy's
        optimiser.step()
    moved = {name: (parameter - before[name]).abs().median() for name, parameter in layer.named_parameters()}
    assert moved["thresholds"] > 0.5 * moved["weight"] > 0


def test_masks_are_almost_dense_at_first_at_every_gain() -> None:
    sparsity = layer_sparsity(mlp(scheme()))
    assert len(sparsity) == 3
    assert all((share < 0.1).all() for share in sparsity.values())


def test_figures_of_masks_are_those_counted_by_hand() -> None:
    sharing = scheme()
    thresholds = torch.tensor([[[-9.0, 9.0]], [[9.0, 9.0]], [[-9.0, -9.0]]])  # masks 10, 00, 11
    layer = MaskedLinear(torch.full((1, 2), 0.5), thresholds)
    assert torch.equal(layer_sparsity(nn.Sequential(layer))["0"], torch.tensor([0.5, 1.0, 0.0]))
    expected = torch.tensor([[0.0, 0.5, 0.5], [0.5, 0.0, 1.0], [0.5, 1.0, 0.0]])
    assert torch.equal(mask_differences(layer), expected)
    metrics = sharing.metrics(layer)
    assert metrics["sharing/sparsity_1"] == 1.0
    assert float(metrics["sharing/sparsity"]) == pytest.approx(0.5)
    assert float(metrics["sharing/mask_difference"]) == pytest.approx(2 / 3)


# Resets


def test_a_reset_touches_every_dead_weight_and_nothing_else() -> None:
    sharing = scheme(sparse_config(reset_probability=1.0))
    network = mlp(sharing)
    optimiser = torch.optim.Adam(network.parameters())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    dead = dead_weights(network)
    metrics = sharing.on_env_steps(network, optimiser, Clock(0, 100), generator())
    assert 0 < sum(int(entries.sum()) for entries in dead) == metrics["sharing/reset_weights"]

    masked_names = [name for name, module in network.named_modules() if isinstance(module, MaskedLinear)]
    for name, entries in zip(masked_names, dead, strict=True):
        weight, thresholds = network.state_dict()[f"{name}.weight"], network.state_dict()[f"{name}.thresholds"]
        assert torch.equal(weight != before.pop(f"{name}.weight"), entries)
        assert torch.equal(thresholds != before.pop(f"{name}.thresholds"), entries.expand(G, -1, -1))
        scale = 0.01 if name == "output" else 1.0  # the head's gain: it began as small
        drawn = thresholds[:, entries] - math.log(scale)
        assert (
            weight[entries].abs() <= scale * weight.shape[1] ** -0.5
        ).all()  # Kaiming-uniform(sqrt 5): 1 / sqrt(fan in)
        assert (drawn <= -0.5).all() and (drawn >= -2.5).all()
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())


def test_a_reset_takes_its_share_of_the_dead_weights() -> None:
    sharing = scheme(sparse_config(reset_probability=0.25))
    layer = masked_layer(sharing, 200, 200)
    n_dead = int(dead_weights(layer)[0].sum())
    metrics = sharing.on_env_steps(layer, torch.optim.Adam(layer.parameters()), Clock(0, 100), generator())
    assert n_dead > 1000
    assert float(metrics["sharing/reset_weights"]) / n_dead == pytest.approx(0.25, abs=0.05)


def test_layers_that_are_not_resettable_keep_their_dead_weights() -> None:
    sharing = scheme(sparse_config(reset_probability=1.0))
    layer = masked_layer(sharing, 20, 20, resettable=False)
    before = layer.weight.clone()
    assert dead_weights(layer)[0].any()
    sharing.on_env_steps(layer, torch.optim.Adam(layer.parameters()), Clock(0, 100), generator())
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_a_reset_clears_the_optimisers_moments_of_reset_entries_alone(amsgrad: bool) -> None:
    sharing = scheme(sparse_config(reset_probability=0.5))
    layer = masked_layer(sharing, 20, 20)
    optimiser = torch.optim.Adam(layer.parameters(), lr=1e-4, amsgrad=amsgrad)
    step_once(layer, optimiser)
    before, moments_before = layer.weight.clone(), {k: v.clone() for k, v in optimiser.state[layer.weight].items()}
    bias_moment = optimiser.state[layer.bias]["exp_avg"].clone()
    sharing.on_env_steps(layer, optimiser, Clock(0, 100), generator())
    reset = layer.weight != before
    assert 0 < reset.sum() < reset.numel()
    for name, moment in optimiser.state[layer.weight].items():
        expected = moments_before[name] if name == "step" else moments_before[name].masked_fill(reset, 0.0)
        assert torch.equal(moment, expected), name
    assert torch.equal(optimiser.state[layer.thresholds]["exp_avg"] == 0, reset.expand(G, -1, -1))
    assert torch.equal(optimiser.state[layer.bias]["exp_avg"], bias_moment)


def test_moments_of_a_parameter_that_was_never_stepped_are_nothing_to_clear() -> None:
    parameter = nn.Parameter(torch.ones(3))
    clear_moments(torch.optim.Adam([parameter]), parameter, torch.ones(3, dtype=torch.bool))


def test_resets_come_once_per_interval_and_not_in_the_last() -> None:
    sharing = scheme(sparse_config())
    network = mlp(sharing)
    optimiser = torch.optim.Adam(network.parameters())
    counted = range(40, 1001, 40)

    def resets(steps: int) -> bool:
        return bool(sharing.on_env_steps(network, optimiser, Clock(0, steps, 1000), generator(steps)))

    reset_at = [steps for steps in counted if resets(steps)]
    assert reset_at == [120, 200, 320, 400, 520, 600, 720, 800]


def test_resets_are_drawn_from_the_given_generator() -> None:
    results = []
    for seed in (0, 0, 1):
        sharing = scheme(sparse_config())
        network = mlp(sharing)
        sharing.on_env_steps(network, torch.optim.Adam(network.parameters()), Clock(0, 100), generator(seed))
        results.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("memory", ["none", "episode"])
def test_multiply_adds_are_those_of_weights_in_use_and_of_all_of_a_gru(memory: str) -> None:
    sharing, kind = scheme(sparse_config()), GroupedMlp if memory == "none" else RecurrentMlp
    network = kind(sharing, 6, 2, NetworkConfig(hidden=(16, 16), memory=memory))
    in_gru = 0 if memory == "none" else 2 * 16 * 3 * 16
    in_use = [sum(int(layer.masks()[member].sum()) for layer in masked_layers(network)) for member in range(G)]
    expected = (in_gru + sum(in_use) / G) / (in_gru + 6 * 16 + 16 * 16 + 16 * 2)
    assert float(sharing.metrics(network)["sharing/flops"]) == pytest.approx(expected)
    assert expected < 1
