"""Does an iteration look at tensors' values, for which a GPU has to be waited for, no more often in longer trials?"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.training.trainers import make_trainer, tiny

# What a GPU is waited for with: values and shapes that the host reads, and, by ``lift_fresh``, lists that it sends.
WAITING = {
    "_local_scalar_dense",
    "nonzero",
    "equal",
    "_unique2",
    "masked_select",
    "multinomial",
    "lift_fresh",
    "repeat_interleave",
}
INDEXING = {"index", "index_put", "index_put_", "_unsafe_index"}
ONCE = 50  # waits of an iteration, whatever its length


class Waits(TorchDispatchMode):
    """Counts the operations of its block that have to wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in INDEXING and any(isinstance(x, Tensor) and x.dtype == torch.bool for x in args[1])
        if name in WAITING or by_mask:
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


def waits_in_an_iteration(algo: str, env: str, episode_steps: int, n_episodes: int) -> Counter[str]:
    config = tiny(algo, env, episode_steps=episode_steps)
    trainer = make_trainer(dataclasses.replace(config, trial_steps=episode_steps * n_episodes))
    trainer.iterate()
    with Waits() as waits:
        trainer.iterate()
    return waits.seen


@pytest.mark.parametrize(
    ("algo", "env"),
    [("mappo", "mpe-spread"), ("mg2l_kalei", "mpe-spread"), ("rl2", "mpe-spread"), ("mappo", "mpe-simple-tag")],
)
def test_longer_trials_and_more_episodes_wait_for_the_device_no_more_often(algo: str, env: str) -> None:
    seen = waits_in_an_iteration(algo, env, 4, 1)
    assert waits_in_an_iteration(algo, env, 8, 3) == seen
    assert 0 < seen.total() < ONCE, seen
