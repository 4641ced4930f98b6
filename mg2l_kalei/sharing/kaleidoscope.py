"""Kaleidoscope: one set of weights, a learnable mask per member over it (Li et al., NeurIPS 2024, arXiv 2410.08540)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from envs.core import setting
from mg2l_kalei.sharing.base import GroupedLinear, LayerRole, members_setting, orthogonal_weight
from mg2l_kalei.sharing.figures import MemberFigure, SharingFigure
from mg2l_kalei.sharing.found import FoundGroups
from mg2l_kalei.sharing.full import FullSharing
from mg2l_kalei.sharing.grouping import GroupingConfig
from mg2l_kalei.sharing.masked_linear import MaskedLinear, Members, mask_diversity, masked_layers
from mg2l_kalei.types import Clock, Metrics, State

HISTORY = 100  # losses over which the coefficient averages, as in the paper's code
MANY_MEMBERS = 16  # of more, single members and pairs are not logged: pairs grow as the square


@dataclass(frozen=True)
class KaleidoscopeConfig(GroupingConfig):
    """Masks, their diversity term and their resets."""

    diversity_coef: float = setting(0.5, "beta: size of the diversity term relative to the main loss", low=0.0)
    main_loss_average: str = setting(
        "magnitude",
        "what the coefficient averages: mean of |loss| (policy gradients, which average near zero) or |mean of loss|",
        choices=("magnitude", "signed"),
    )
    diversity_floor: float = setting(1e-6, "least mean diversity that the coefficient divides by", above=0.0)
    threshold_bias: float = setting(5.0, "initial thresholds lie at least this far below 0, before the sigmoid")
    threshold_scale: float = setting(5.0, "width of the uniform range of initial thresholds below that", low=0.0)
    threshold_lr: float | None = setting(
        0.1, "Adam's learning rate for thresholds, decaying as the others'; null: that of the weights", above=0.0
    )
    threshold_eps: float = setting(1e-8, "Adam's epsilon for thresholds, whose gradients start near 1e-7", above=0.0)
    reset_interval: int = setting(200_000, "environment steps between resets of weights that every member masks", low=1)
    reset_probability: float = setting(0.1, "share of the dead weights that a reset redraws", low=0.0, high=1.0)
    members: str = members_setting(groups=True)


# For value-based learners, whose losses do not average near zero, and which take many more and smaller steps. Ours are
# the thresholds' epsilon, their shift by a layer's gain, and the floor.
PUBLISHED = KaleidoscopeConfig(main_loss_average="signed", threshold_lr=None)


class KaleidoscopeSharing(FoundGroups, FullSharing):
    """Full sharing whose maskable layers have a mask per member, pushed apart by a diversity term."""

    config: KaleidoscopeConfig

    def __init__(self, config: KaleidoscopeConfig, members: Sequence[int], generator: torch.Generator) -> None:
        super().__init__(config, members, generator)
        self.main_losses = torch.zeros(HISTORY)  # rings: entry i % HISTORY is that of the i-th call of ``loss``
        self.diversities = torch.zeros(HISTORY)
        self.n_losses = 0
        self.n_intervals = 0  # reset intervals that have passed

    @property
    def used(self) -> Members:
        """Members that somebody is: of groups, there may be fewer than masks. All are a slice, which copies nothing."""
        return sorted(set(self.found)) if self.found else slice(self.n_members)

    def linear(
        self, in_features: int, out_features: int, *, gain: float, role: LayerRole = LayerRole()
    ) -> GroupedLinear:
        if not role.is_masked:
            return super().linear(in_features, out_features, gain=gain)
        weight, scale = orthogonal_weight(out_features, in_features, gain, self.generator), min(1.0, gain)
        thresholds = self._initial_thresholds(weight.shape, scale, self.generator)
        return MaskedLinear(weight, thresholds, self.places, role=role, scale=scale)

    def parameter_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        # The sigmoid is flat at the initial thresholds: under the epsilon of 1e-5 usual in PPO they would hardly move.
        # Nor would they at the weights' rate, which is the most that Adam moves them by in a step.
        thresholds = [layer.thresholds for layer in masked_layers(network)]
        others = set(network.parameters()) - set(thresholds)
        own: dict[str, Any] = {"params": thresholds, "eps": self.config.threshold_eps}
        if self.config.threshold_lr is not None:
            own["lr"] = self.config.threshold_lr
        return [{"params": [parameter for parameter in network.parameters() if parameter in others]}, own]

    def loss(self, network: nn.Module, main_loss: Tensor) -> tuple[Tensor, Metrics]:
        """-c J_div, J_div = sum_l w_l sum_{i,j} || |W| (M_i - M_j) ||_1 / (G (G - 1) P), P = all maskable weights.

        The coefficient c = |beta mean(main loss) / mean(J_div)| is a constant to the gradient; see the config.
        """
        layers = masked_layers(network)
        n_members = len(self._numbers())
        n_pairs = max(1, n_members * (n_members - 1))  # a single member has no pairs, and J_div = 0
        n_weights = sum(layer.weight.numel() for layer in layers)
        diversity = mask_diversity(layers, self.used) / (n_pairs * n_weights)
        self._remember(main_loss.detach(), diversity.detach())
        coefficient = self._coefficient()
        metrics: Metrics = {"sharing/diversity": diversity.detach(), "sharing/coefficient": coefficient}
        return -coefficient * diversity, metrics

    def on_env_steps(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, clock: Clock, generator: torch.Generator
    ) -> Metrics:
        """Redraw a share of the weights that all members mask, once per ``reset_interval``, but not in the last one."""
        if not self._is_reset_due(clock):
            return {}
        layers = [layer for layer in masked_layers(network) if layer.role.is_resettable]
        return {"sharing/reset_weights": float(sum(self._reset(layer, optimiser, generator) for layer in layers))}

    def metrics(self, network: nn.Module) -> Metrics:
        """Sparsity, what is left to compute and how far masks differ, on average; few members' also one by one."""
        used = self._numbers()
        sparsity = 1 - all_masks(network, self.used).mean(1)
        differences = mask_differences(network, self.used)
        n_pairs = len(used) * (len(used) - 1)
        metrics: Metrics = {
            "sharing/sparsity": sparsity.mean(),
            "sharing/flops": 1 - sparsity.mean() * maskable_share(network),
            "sharing/mask_difference": differences.sum() / max(1, n_pairs),
        }
        if len(used) <= MANY_MEMBERS:
            metrics |= {f"sharing/sparsity_{member}": value for member, value in zip(used, sparsity, strict=True)}
            pairs = combinations(range(len(used)), 2)
            metrics |= {f"sharing/mask_difference_{used[i]}_{used[j]}": differences[i, j] for i, j in pairs}
        return metrics

    def figures(self, network: nn.Module) -> Sequence[SharingFigure]:
        return [
            *super().figures(network),
            MemberFigure(
                name="masks",
                title="Masks over the shared weights",
                pairs=mask_differences(network, self.used),
                pairs_label="share masked by one of the two",
                each=1 - all_masks(network, self.used).mean(1),
                each_label="sparsity: share masked",
            ),
        ]

    def state_dict(self) -> State:
        return {
            "main_losses": self.main_losses.clone(),
            "diversities": self.diversities.clone(),
            "n_losses": self.n_losses,
            "n_intervals": self.n_intervals,
            **super().state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        self.main_losses = state["main_losses"].clone()
        self.diversities = state["diversities"].clone()
        self.n_losses = state["n_losses"]
        self.n_intervals = state["n_intervals"]

    def _numbers(self) -> list[int]:
        """Of the members that somebody is."""
        return list(self.used) if isinstance(self.used, list) else list(range(self.n_members))

    def _initial_thresholds(self, shape: torch.Size, scale: float, generator: torch.Generator) -> Tensor:
        # Far below 0, sigmoid(s) = exp(s): log(scale) makes thresholds as small as the weights, or a policy's last
        # layer (gain 0.01) would be half masked from the start. Not in the paper, whose gains are near 1.
        uniform = torch.rand(self.n_members, *shape, generator=generator, device=generator.device)
        return math.log(scale) - (uniform * self.config.threshold_scale + self.config.threshold_bias)

    def _remember(self, main_loss: Tensor, diversity: Tensor) -> None:
        if self.main_losses.device != main_loss.device:  # made before the network's device was known
            self.main_losses = self.main_losses.to(main_loss.device)
            self.diversities = self.diversities.to(main_loss.device)
        self.main_losses[self.n_losses % HISTORY] = main_loss
        self.diversities[self.n_losses % HISTORY] = diversity
        self.n_losses += 1

    def _coefficient(self) -> Tensor:
        seen = slice(min(self.n_losses, HISTORY))
        losses, diversities = self.main_losses[seen], self.diversities[seen]
        main_loss = losses.abs().mean() if self.config.main_loss_average == "magnitude" else losses.mean().abs()
        floored = diversities.mean().clamp(min=self.config.diversity_floor)
        return self.config.diversity_coef * main_loss / floored

    def _is_reset_due(self, clock: Clock) -> bool:
        """Whether a reset interval has passed since last asked, and the last one has not begun."""
        before, self.n_intervals = self.n_intervals, clock.env_steps // self.config.reset_interval
        is_last = clock.env_steps >= clock.total_env_steps - self.config.reset_interval
        return self.n_intervals > before and not is_last

    def _reset(self, layer: MaskedLinear, optimiser: torch.optim.Optimizer, generator: torch.Generator) -> int:
        """Redraw dead weights and their thresholds with ``reset_probability``; returns how many."""
        shape, device = layer.weight.shape, layer.weight.device
        dead = ~layer.masks()[self.used].any(0)  # (out, in)
        drawn = torch.rand(shape, generator=generator, device=generator.device).to(device)
        chosen = dead & (drawn < self.config.reset_probability)
        weight = nn.init.kaiming_uniform_(
            torch.empty(shape, device=generator.device), a=math.sqrt(5), generator=generator
        ).to(device)
        weight *= layer.scale
        thresholds = self._initial_thresholds(shape, layer.scale, generator).to(device)
        with torch.no_grad():
            layer.weight.copy_(torch.where(chosen, weight, layer.weight))
            layer.thresholds.copy_(torch.where(chosen, thresholds, layer.thresholds))
        for parameter in (layer.weight, layer.thresholds):
            clear_moments(optimiser, parameter, chosen)
        return int(chosen.sum())


def all_masks(network: nn.Module, members: Members = slice(None)) -> Tensor:
    """Every maskable weight of the network, 1 where a member uses it: (G, P) float32."""
    return torch.cat([layer.masks()[members].flatten(1) for layer in masked_layers(network)], dim=1).float()


def clear_moments(optimiser: torch.optim.Optimizer, parameter: nn.Parameter, where: Tensor) -> None:
    """Zero what the optimiser remembers of a parameter's entries where ``where`` (broadcastable, bool) is True."""
    for moment in optimiser.state.get(parameter, {}).values():
        if isinstance(moment, Tensor) and moment.shape == parameter.shape:
            moment.masked_fill_(where, 0.0)


def layer_sparsity(network: nn.Module) -> dict[str, Tensor]:
    """For each maskable layer, by its name in the network, the share of weights that each member masks: (G,)."""
    named = network.named_modules()
    return {name: 1 - m.masks().float().mean((1, 2)) for name, m in named if isinstance(m, MaskedLinear)}


def maskable_share(network: nn.Module) -> float:
    """Share of the network's multiply-adds, one per weight and input, that is of maskable weights: all but a GRU's."""
    layers = [layer for layer in network.modules() if isinstance(layer, GroupedLinear)]
    sizes = [layer.in_features * layer.out_features for layer in layers]
    maskable = [size for size, layer in zip(sizes, layers, strict=True) if isinstance(layer, MaskedLinear)]
    return sum(maskable) / sum(sizes)


def mask_differences(network: nn.Module, members: Members = slice(None)) -> Tensor:
    """Share of the maskable weights that exactly one of members i and j uses: (G, G), symmetric, zero diagonal."""
    masks = all_masks(network, members)
    used = masks.sum(1)
    return (used[:, None] + used[None, :] - 2 * masks @ masks.T) / masks.shape[1]
