"""Processes that train one run together, as ``torchrun`` starts them; alone, every reduction is the identity."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from envs.core import Refusal

PATIENCE = timedelta(days=1)  # that others wait for the first while it evaluates; one that ended is noticed at once
SIGNS_OF_AN_END = ("clos", "reset", "refused", "broken pipe", "timed out", "timeout")  # in what backends say
_CPU = torch.device("cpu")


class ProcessLost(RuntimeError):
    """Another process of the run has ended, or cannot be reached."""


class Processes(NamedTuple):
    """The one place where what processes know is put together: gradients, statistics, and decisions.

    Every process must make the same calls in the same order, with tensors of the same shape. Whoever decides by data of
    its own whether to make one asks ``any`` first. All raise ProcessLost.
    """

    rank: int = 0
    size: int = 1

    def sum(self, x: Tensor) -> Tensor:
        """The sum of x over all processes, of x's shape; without gradient."""
        if self.size == 1:
            return x
        total = x.detach().clone()
        with _connected():
            dist.all_reduce(total)
        return total

    def mean(self, x: Tensor) -> Tensor:
        """The mean of x over all processes, of x's shape; without gradient."""
        return x if self.size == 1 else self.sum(x) / self.size

    def gather(self, x: Tensor, dim: int = 0) -> Tensor:
        """Every process's x, one after the other along ``dim``.

        With gradient to this process's own part, ``size`` times: of a loss of what was gathered, which is then the same
        in all processes, the mean of the gradients is the gradient.
        """
        return x if self.size == 1 else _Gather.apply(x, dim, self)

    def own(self, n: int) -> slice:
        """Where in what was gathered this process's ``n`` entries are."""
        return slice(self.rank * n, (self.rank + 1) * n)

    def any(self, claim: bool) -> bool:
        """Whether the claim is true in some process."""
        return claim if self.size == 1 else bool(self.sum(torch.tensor(int(claim))))

    def share(self, n: Tensor) -> Tensor | float:
        """What to multiply a mean over ``n`` entries by, so that its mean over all processes is that over all entries.

        1 where every process has as many.
        """
        return 1.0 if self.size == 1 else n / self.mean(n).clamp(min=1 / self.size)

    def mean_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their mean over all processes. Parameters without one are the same everywhere."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        mean = self.mean(parameters_to_vector(gradients))
        for gradient, new in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(new.view_as(gradient))

    def tell(self, order: str, *arguments: int) -> None:
        """The first process's order to the others, which are all in ``told``; by those themselves, nothing."""
        if self.size > 1 and self.rank == 0:
            with _connected():
                dist.broadcast_object_list([order, arguments], src=0, device=_CPU)

    def told(self) -> tuple[str, tuple[int, ...]]:
        """What the first process tells the others to do next."""
        heard: list[Any] = [None, None]
        with _connected():
            dist.broadcast_object_list(heard, src=0, device=_CPU)
        return heard[0], heard[1]


ALONE = Processes()


@contextmanager
def joined(*, on_gpu: bool) -> Iterator[Processes]:
    """Those that ``torchrun`` started together with this one; alone where it did not start this one.

    ``on_gpu``: a GPU is each process's own, the one that ``device=cuda`` then means, if there are GPUs.
    """
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield ALONE
        return
    backend = "gloo"
    if on_gpu and torch.cuda.is_available():
        place, n_gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if place >= n_gpus:
            raise Refusal(
                f"process {place} of this machine has no GPU: there are {n_gpus}, expected one for each process"
            )
        torch.cuda.set_device(place)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def speaks_for_all() -> bool:
    """Whether this process says what is true of all that ``torchrun`` started on this machine: the first of them."""
    return not dist.is_torchelastic_launched() or os.environ["LOCAL_RANK"] == "0"


@contextmanager
def _connected() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what torch's backends raise, of several kinds
        reason = str(error).split("\n")[0].split(". ")[0]
        if not any(sign in reason.lower() for sign in SIGNS_OF_AN_END):
            raise ProcessLost(f"what the processes of this run have could not be put together: {reason}") from error
        raise ProcessLost(
            f"another process of this run has ended ({reason}); the same command goes on from the last checkpoint"
        ) from error


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, processes: Processes) -> Tensor:
        ctx.dim, ctx.processes, ctx.n = dim, processes, x.shape[dim]
        own = x.contiguous()
        parts = [torch.empty_like(own) for _ in range(processes.size)]
        with _connected():
            dist.all_gather(parts, own)
        return torch.cat(parts, dim)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        own = grad_outputs[0].narrow(ctx.dim, ctx.processes.rank * ctx.n, ctx.n)
        return own * ctx.processes.size, None, None
