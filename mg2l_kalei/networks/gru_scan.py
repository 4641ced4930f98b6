"""A GRU over a sequence as one differentiable operation: PyTorch's equations, the gradient written out by hand.

Step by step, autograd would record a dozen small operations at each step, and add to the weights' gradient at each.
Here a step costs a matrix product and a few operations in each direction, and all that does not depend on the step
before is done for the whole sequence at once. Axes: L steps, G members, S rows, H units.

    r, u = sigmoid(x_ru + (V h + b)_ru)    n = tanh(x_n + r (V h + b)_n)    h' = n + u (h - n)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class GruScan(torch.autograd.Function):
    """``GruScan.apply(x, start, kept, weight, bias)`` -> the state after each step (L, G, S, H).

    x (L, G, S, 3H): what the input adds to the gates, reset, update and new. start (G, S, H): the state before the
    first step. kept (L, 1, S, 1): 0 before steps at which all is forgotten, else 1; None: nothing is forgotten.
    weight (G, H, 3H), bias (G, 1, 3H): what the state adds to the gates.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, start: Tensor, kept: Tensor | None, weight: Tensor, bias: Tensor) -> Tensor:
        length, units = len(x), start.shape[-1]
        before, after = x.new_empty(length, *start.shape), x.new_empty(length, *start.shape)
        gates = x.new_empty(length, *start.shape[:-1], 2 * units)  # reset, update
        new, new_by = torch.empty_like(before), torch.empty_like(before)
        state = start
        for t in range(length):
            state = torch.mul(state, 1.0 if kept is None else kept[t], out=before[t])
            added = torch.baddbmm(bias, state, weight)
            reset_update = torch.add(x[t, ..., : 2 * units], added[..., : 2 * units], out=gates[t]).sigmoid_()
            new_by[t] = added[..., 2 * units :]
            candidate = torch.addcmul(x[t, ..., 2 * units :], reset_update[..., :units], new_by[t], out=new[t]).tanh_()
            state = torch.lerp(candidate, state, reset_update[..., units:], out=after[t])
        ctx.save_for_backward(before, gates, new, new_by, kept, weight)
        return after

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, Tensor, Tensor]:
        before, gates, new, new_by, kept, weight = ctx.saved_tensors
        reset, update = gates.chunk(2, dim=-1)
        # What a unit of the state's gradient is worth, in turn, to r, u and n before their activations.
        to_new = (1 - update) * (1 - new.square())
        to_update = (before - new) * update * (1 - update)
        to_reset = to_new * new_by * reset * (1 - reset)
        to_added = torch.stack([to_reset, to_update, to_new * reset], dim=-2)  # (L, G, S, 3, H)
        backwards = weight.mT.contiguous()  # (G, 3H, H)
        of_state = torch.empty_like(gradient)  # of the state after each step, all that follows included
        of_added = gradient.new_empty(to_added.shape)
        running = torch.zeros_like(gradient[0])
        for t in reversed(range(len(gradient))):
            now = torch.add(gradient[t], running, out=of_state[t])
            added = torch.mul(now.unsqueeze(-2), to_added[t], out=of_added[t])
            running = torch.baddbmm(now * update[t], added.flatten(-2), backwards)
            if kept is not None:
                running = running * kept[t]
        flat = of_added.flatten(-2)  # (L, G, S, 3H)
        of_x = torch.cat([flat[..., : 2 * new.shape[-1]], of_state * to_new], dim=-1)
        by_member = flat.transpose(0, 1).flatten(1, 2)  # (G, L S, 3H)
        of_weight = before.transpose(0, 1).flatten(1, 2).mT @ by_member
        return of_x, running, None, of_weight, by_member.sum(1, keepdim=True)
