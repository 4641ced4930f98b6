"""How long the matrix products of some work take by themselves: the share of it that no tuning of the rest can save."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

N_TIMES = 5  # after one that does not count
PRODUCTS = {torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm, torch.ops.aten.baddbmm}

Layout = tuple[tuple[int, ...], tuple[int, ...], torch.dtype, torch.device]  # sizes, strides
Product = tuple[Any, tuple[Layout, ...]]


class Recorded(TorchDispatchMode):
    """Counts the matrix products made in its block, forward and backward, by operation and layout of its arguments.

    Where a product was written to makes no difference."""

    def __init__(self) -> None:
        super().__init__()
        self.products: Counter[Product] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in PRODUCTS:
            self.products[func.overloadpacket, tuple(_layout(x) for x in args)] += 1
        return func(*args, **(kwargs or {}))


def seconds_alone(products: Counter[Product], wait: Callable[[], None]) -> float:
    """That they take one after the other, on random numbers; ``wait`` returns when the device has done its work."""
    return sum(n * _seconds(product, wait) for product, n in products.items())


def _seconds(product: Product, wait: Callable[[], None]) -> float:
    operation, layouts = product
    arguments = [_like(layout) for layout in layouts]
    operation(*arguments)
    wait()
    started = time.perf_counter()
    for _ in range(N_TIMES):
        operation(*arguments)
    wait()
    return (time.perf_counter() - started) / N_TIMES


def _layout(x: Tensor) -> Layout:
    return tuple(x.shape), x.stride(), x.dtype, x.device


def _like(layout: Layout) -> Tensor:
    shape, stride, dtype, device = layout
    size = 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))  # less where places lie on each other
    return torch.empty(size, dtype=dtype, device=device).normal_().as_strided(shape, stride)
