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


class GruScan(torch.autograd.Function):
    """``GruScan.apply(x, start, kept, weight, bias)`` -> the state after each step (L, G, S, H).

    x (L, G, S, 3H): what the input adds to the gates, reset, update and new. start (G, S, H): the state before the
    first step. kept (L, 1 or G, S, 1): 0 before steps at which all is forgotten, else 1; None: nothing is forgotten.
    weight (G, H, 3H), bias (G, 1, 3H): what the state adds to the gates.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, start: Tensor, kept: Tensor | None, weight: Tensor, bias: Tensor) -> Tensor:
        length, units = len(x), start.shape[-1]
        before, after, new = (x.new_empty(length, *start.shape) for _ in range(3))
        added = x.new_empty(length, *start.shape[:-1], 3 * units)  # by the state; its first two thirds become r and u
        state = start
        for t in range(length):
            state = torch.mul(state, 1.0 if kept is None else kept[t], out=before[t])
            gates = torch.baddbmm(bias, state, weight, out=added[t])
            reset_update = gates[..., : 2 * units].add_(x[t, ..., : 2 * units]).sigmoid_()
            reset, update = reset_update.chunk(2, dim=-1)
            candidate = torch.addcmul(x[t, ..., 2 * units :], reset, gates[..., 2 * units :], out=new[t]).tanh_()
            state = torch.lerp(candidate, state, update, out=after[t])
        ctx.save_for_backward(before, added, new, kept, weight)
        return after

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, Tensor, Tensor]:
        before, added, new, kept, weight = ctx.saved_tensors
        units, backwards = new.shape[-1], weight.mT.contiguous()
        of_x, of_added = torch.empty_like(added), torch.empty_like(added)  # they differ in the last third alone
        running = torch.zeros_like(gradient[0])
        for t in reversed(range(len(gradient))):
            reset, update, new_by = added[t].chunk(3, dim=-1)
            now = gradient[t] + running
            of_new = torch.mul(now * (1 - update), 1 - new[t].square(), out=of_x[t, ..., 2 * units :])
            of_update = (before[t] - new[t]).mul_(now).mul_(update).mul_(1 - update)
            of_reset = (of_new * new_by).mul_(reset).mul_(1 - reset)
            now_added = torch.cat([of_reset, of_update, of_new * reset], dim=-1, out=of_added[t])
            running = torch.baddbmm(now * update, now_added, backwards)
            if kept is not None:
                running *= kept[t]
        of_x[..., : 2 * units] = of_added[..., : 2 * units]
        by_member = of_added.transpose(0, 1).flatten(1, 2)  # (G, L S, 3H)
        of_weight = before.transpose(0, 1).flatten(1, 2).mT @ by_member
        return of_x, running, None, of_weight, by_member.sum(1, keepdim=True)
