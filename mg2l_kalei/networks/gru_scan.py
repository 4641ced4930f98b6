"""A GRU over a sequence as one differentiable operation: PyTorch's equations, the gradient written out by hand.

Step by step, autograd would record a dozen small operations at each step, and add to the weights' gradient at each.
Here a step costs a matrix product and a few operations in each direction, and the weights' gradient is one product for
the whole sequence. Axes: L steps, G members, S rows, H units.

    r, u = sigmoid(x_ru + (V h + b)_ru)    n = tanh(x_n + r (V h + b)_n)    h' = n + u (h - n)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def states_after(x: Tensor, start: Tensor, kept: Tensor | None, weight: Tensor, bias: Tensor) -> Tensor:
    """``GruScan`` with a gradient where that is enabled; without, nothing is kept of a step but its state."""
    if torch.is_grad_enabled():
        after: Tensor = GruScan.apply(x, start, kept, weight, bias)
        return after
    return _scanned(x, start, kept, weight, bias, n_kept=1)[0]


class GruScan(torch.autograd.Function):
    """``GruScan.apply(x, start, kept, weight, bias)`` -> the state after each step (L, G, S, H).

    x (L, G, S, 3H): what the input adds to the gates, reset, update and new. start (G, S, H): the state before the
    first step. kept (L, 1 or G, S, 1): 0 before steps at which all is forgotten, else 1; None: nothing is forgotten.
    weight (G, H, 3H), bias (G, 1, 3H): what the state adds to the gates.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, start: Tensor, kept: Tensor | None, weight: Tensor, bias: Tensor) -> Tensor:
        after, before, added, new = _scanned(x, start, kept, weight, bias, n_kept=len(x))
        ctx.save_for_backward(before, added, new, kept, weight)
        return after

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, Tensor, Tensor]:
        before, added, new, kept, weight = ctx.saved_tensors
        reset, update, new_by = _reset_update_new(added)
        units, backwards = new.shape[-1], weight.mT.contiguous()
        # What a step's gradient has to be multiplied by does not depend on later steps: that of the input's new, and
        # those of the gates that the state adds. So it is worked out for all steps at once.
        rest = 1 - update
        by_new, by_added = (1 - new.square()).mul_(rest), torch.empty_like(added)
        of_reset, of_update, of_new = _reset_update_new(by_added)
        torch.mul(by_new, reset, out=of_new)
        torch.mul(of_new, new_by, out=of_reset).mul_(1 - reset)
        torch.sub(before, new, out=of_update).mul_(update).mul_(rest)
        of_state, running = torch.empty_like(new), torch.zeros_like(gradient[0])
        views = (gradient, update, of_state, of_state.unsqueeze(-2), by_added, by_added.unflatten(-1, (3, units)))
        keeps = [1.0] * len(gradient) if kept is None else kept
        for g, u, now, now_thrice, of_gates, thirds, k in reversed(list(zip(*views, keeps, strict=True))):
            torch.add(g, running, out=now)
            thirds.mul_(now_thrice)
            running = torch.baddbmm(now * u, of_gates, backwards).mul_(k)
        by_member = by_added.transpose(0, 1).flatten(1, 2)  # (G, L S, 3H)
        of_weight = before.transpose(0, 1).flatten(1, 2).mT @ by_member
        of_bias = by_member.sum(1, keepdim=True)
        torch.mul(by_new, of_state, out=of_new)  # no longer needed: the input's gradient is in the same place
        return by_added, running, None, of_weight, of_bias


def _scanned(
    x: Tensor, start: Tensor, kept: Tensor | None, weight: Tensor, bias: Tensor, *, n_kept: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The states after each step and, of ``n_kept`` steps, all or 1, what a backward pass needs: before, added, new."""
    length, units = len(x), start.shape[-1]
    after = x.new_empty(length, *start.shape)
    before, new = (x.new_empty(n_kept, *start.shape).expand(length, *start.shape) for _ in range(2))
    added = x.new_empty(n_kept, *start.shape[:-1], 3 * units)  # by the state; its first two thirds become r and u
    added = added.expand(length, *added.shape[1:])
    views = (before, after, new, added, *_reset_update_new(added), added[..., : 2 * units])
    of_input = (x[..., : 2 * units] + bias[..., : 2 * units], x[..., 2 * units :])
    new_bias = bias[..., 2 * units :]
    state, keeps = start, [1.0] * length if kept is None else kept
    for b, a, n, gates, r, u, new_by, r_u, x_r_u, x_n, k in zip(*views, *of_input, keeps, strict=True):
        torch.mul(state, k, out=b)
        torch.bmm(b, weight, out=gates)  # with a bias it would copy that into its rows first
        r_u.add_(x_r_u).sigmoid_()
        torch.addcmul(x_n, r, new_by.add_(new_bias), out=n).tanh_()
        state = torch.lerp(n, b, u, out=a)
    return after, before, added, new


def _reset_update_new(gates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The thirds of (..., 3H), each (..., H)."""
    reset, update, new = gates.chunk(3, dim=-1)
    return reset, update, new
