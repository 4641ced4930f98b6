"""Time of the masked layer against a dense product per agent, forward and backward, measured side by side.

    python -m benchmarks.masked_linear

Both see 3,200 rows of 3 agents, 128 wide. The peer is one ``torch.bmm`` with a free weight per agent, no bias and no
mask, on rows already grouped by agent: the least that separate weights can cost. Prints the median ratio of pairs.
Needs idle cores: waits between threads count against the layer, whose passes are many and short. On a busy machine set
OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mg2l_kalei.sharing import SHARINGS
from mg2l_kalei.training.heap import keep_freed_memory

ROWS, AGENTS, WIDTH = 3200, 3, 128
PAIRS, WARM_UP = 60, 5


def seconds(step: Callable[[], Tensor], grad: Tensor, leaves: Sequence[Tensor]) -> float:
    """Wall-clock time of one forward and backward pass, with no gradients left from the one before."""
    for leaf in leaves:
        leaf.grad = None
    start = time.perf_counter()
    step().backward(grad)
    return time.perf_counter() - start


def median_ratio(kind: str) -> float:
    """Median over interleaved pairs of (layer's time / peer's time)."""
    generator = torch.Generator().manual_seed(0)
    sharing_class, config = SHARINGS[kind]
    layer = sharing_class(config, range(AGENTS), generator).linear(WIDTH, WIDTH, gain=1.0)
    x = torch.randn(ROWS, AGENTS, WIDTH, generator=generator, requires_grad=True)
    grad = torch.randn(ROWS, AGENTS, WIDTH, generator=generator)
    dense_weight = torch.randn(AGENTS, WIDTH, WIDTH, generator=generator, requires_grad=True)
    dense_x = x.detach().transpose(0, 1).contiguous().requires_grad_()
    dense_grad = grad.transpose(0, 1).contiguous()

    ratios = []
    for _ in range(WARM_UP + PAIRS):
        own = seconds(lambda: layer(x), grad, [x, *layer.parameters()])
        peer = seconds(lambda: torch.bmm(dense_x, dense_weight), dense_grad, [dense_x, dense_weight])
        ratios.append(own / peer)
    return statistics.median(ratios[WARM_UP:])


def main() -> None:
    keep_freed_memory()  # as training does
    threads = torch.get_num_threads()
    print(f"forward + backward, {ROWS} rows x {AGENTS} agents x {WIDTH} -> {WIDTH}, {threads} threads, {PAIRS} pairs")
    for kind in SHARINGS:
        print(f"{kind:>14}  {median_ratio(kind):.2f} x dense bmm")


if __name__ == "__main__":
    main()
