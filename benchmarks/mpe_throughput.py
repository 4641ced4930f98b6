"""Environment steps per second of simple_spread: batched rows beside mpe2's parallel environment, on one thread.

    python -m benchmarks.mpe_throughput [n_rows ...]

One step moves all agents of one row. Both play random discrete actions through whole episodes, resets included, in
turn within one run, so that both see the same machine. Medians over rounds; needs mpe2.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from mpe2 import simple_spread_v3

from envs.mpe.simple_spread import SimpleSpread, SimpleSpreadConfig

ROUNDS = 7
EPISODES = 20  # of mpe2 in a round, and of every row of ours
N_ROWS = (32, 1024)


def play_mpe2() -> int:
    """Steps made."""
    env = simple_spread_v3.parallel_env()
    n_steps = 0
    for episode in range(EPISODES):
        env.reset(seed=episode)
        while env.agents:
            env.step({agent: env.action_space(agent).sample() for agent in env.agents})
            n_steps += 1
    return n_steps


def play_ours(n_rows: int) -> int:
    family = SimpleSpread("mpe-simple-spread", SimpleSpreadConfig(), np.random.default_rng(0))
    generator = torch.Generator().manual_seed(0)
    env, task = family.make(n_rows, torch.device("cpu"), generator), torch.zeros(n_rows, dtype=torch.int64)
    spec = family.spec
    for _ in range(EPISODES):
        env.reset(task)
        for _ in range(spec.episode_steps):
            env.step(torch.randint(spec.action_dim, (n_rows, spec.n_agents), generator=generator))
    return EPISODES * spec.episode_steps * n_rows


def rate(play: Callable[[], int]) -> float:
    started = time.perf_counter()
    n_steps = play()
    return n_steps / (time.perf_counter() - started)


def main(words: list[str]) -> None:
    torch.set_num_threads(1)
    sizes = [int(word) for word in words] or list(N_ROWS)
    plays: list[Callable[[], int]] = [play_mpe2, *(partial(play_ours, n) for n in sizes)]
    rounds = [[rate(play) for play in plays] for _ in range(ROUNDS)]
    print(f"simple_spread, 3 agents, one thread, median of {ROUNDS} rounds")
    print(f"{'mpe2':>16}  {statistics.median(row[0] for row in rounds):>11,.0f} steps/s")
    for place, n in enumerate(sizes, start=1):
        ours = statistics.median(row[place] for row in rounds)
        ratio = statistics.median(row[place] / row[0] for row in rounds)
        print(f"{f'ours, {n:,} rows':>16}  {ours:>11,.0f} steps/s  {ratio:,.0f} times")


if __name__ == "__main__":
    main(sys.argv[1:])
