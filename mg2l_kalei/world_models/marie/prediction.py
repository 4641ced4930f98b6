"""What MARIE's dynamics are trained to say of replayed sequences."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mg2l_kalei.losses.masking import masked_mean
from mg2l_kalei.losses.symlog import Bins
from mg2l_kalei.world_models.marie.network import Blocks, Dynamics, Outcome

SPREAD = 0.75  # of a reward's distribution over classes [classes]


class Truth(NamedTuple):
    """What steps led to; of steps that nobody knows of (``counts``), nothing."""

    reward: Tensor  # (L, B, N)
    terminated: Tensor  # (L, B) bool
    next_alive: Tensor  # (L, B, N) bool
    next_legal: Tensor | None  # (L, B, N, n_actions) bool
    counts: Tensor  # (L, B, N) bool   who lived through it


def losses(
    dynamics: Dynamics, blocks: Blocks, out: Tensor, truth: Truth, *, bins: Bins | None, likeness: Tensor | None = None
) -> dict[str, Tensor]:
    """Means over what is known, a scalar for each head, of equal weight: ``obs``, ``reward``, ``goes_on``, ``legal``,
    and ``alive``, which the published model lacks.

    out (L, B, N, S, width), of the transformer. ``bins``: of rewards; None: they are predicted directly.
    ``likeness`` (V, V): what each token's target is over all tokens; None: the token itself.
    """
    outcome = dynamics.outcome(out[..., -1, :])
    goes_on = (~truth.terminated).unsqueeze(-1).expand_as(truth.counts)
    return {
        "obs": next_token_loss(dynamics, blocks, out, likeness),
        "reward": reward_loss(outcome, truth, bins),
        "goes_on": binary_loss(outcome.goes_on, goes_on, truth.counts),
        "alive": binary_loss(outcome.alive, truth.next_alive, truth.counts & goes_on),
        **legal_loss(outcome, truth),
    }


def next_token_loss(dynamics: Dynamics, blocks: Blocks, out: Tensor, likeness: Tensor | None) -> Tensor:
    """Cross-entropy of every observation token but a sequence's first, and but those that begin another episode."""
    K = blocks.obs.shape[-1]
    places = torch.cat([out[..., : K - 1, :], out[..., -1:, :]], dim=-2)  # (L, B, N, K, width)
    target = blocks.obs.permute(1, 2, 0, 3).flatten(2)[..., 1:]  # (B, N, L K - 1)
    follows = torch.ones_like(blocks.obs, dtype=torch.bool)  # (L, B, N, K)
    follows[1:, ..., 0] = (blocks.episode[1:] == blocks.episode[:-1]).unsqueeze(-1)
    known = (follows & blocks.alive.unsqueeze(-1)).permute(1, 2, 0, 3).flatten(2)[..., 1:]
    logits = dynamics.next_token(places.permute(1, 2, 0, 3, 4).flatten(2, 3)[:, :, :-1][known])
    return mean_cross_entropy(logits, target[known] if likeness is None else likeness[target[known]])


def reward_loss(outcome: Outcome, truth: Truth, bins: Bins | None) -> Tensor:
    """Smooth L1 of rewards, or cross-entropy of their classes (HL-Gauss)."""
    reward, predicted = truth.reward[truth.counts], outcome.reward[truth.counts]
    if bins is not None:
        return mean_cross_entropy(predicted, bins.probabilities(reward, SPREAD))
    return F.smooth_l1_loss(predicted, reward) if len(reward) else predicted.sum()


def legal_loss(outcome: Outcome, truth: Truth) -> dict[str, Tensor]:
    """Cross-entropy of each action's being legal; of continuous ones, nothing."""
    if outcome.legal is None or truth.next_legal is None:
        return {}
    logits, legal = outcome.legal[truth.counts].flatten(0, 1), truth.next_legal[truth.counts].flatten().long()
    return {"legal": mean_cross_entropy(logits, legal)}


def mean_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """0 where nothing is known, as of episodes of a single step: not a mean of nothing."""
    return F.cross_entropy(logits, target) if len(logits) else logits.sum()


def binary_loss(logits: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """Cross-entropy of a claim, over entries that count; all of one shape."""
    loss = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
    return masked_mean(loss, counts)
