"""Environment steps per second of a warehouse: batched rows beside rware's own, on one thread.

    python -m benchmarks.rware_throughput [registration=tiny-4ag] [n_rows ...]

One step moves all agents of one row. Both play random actions, observations and resets included (episodes of 500
steps), in turn within one run, so that both see the same machine. Medians over rounds; needs rware. The first play,
which compiles or reads what was compiled before, is shown, not counted.
"""

from __future__ import annotations

import sys
from typing import Any

import gymnasium
import numpy as np
import rware  # noqa: F401, because it registers what gymnasium makes
import torch

from benchmarks.side_by_side import Play, print_heading, print_rates
from envs.rware.family import Registered, RegisteredConfig

STEPS = 1000  # of every row of ours in a round
THEIR_STEPS = 500  # of rware's one row
N_ROWS = (64, 1024)
REGISTRATION = "registration="


def play_rware(registration: str) -> Play:
    """What plays a round, and says how many steps it made."""
    env: Any = gymnasium.make(f"rware-{registration}-v2", disable_env_checker=True).unwrapped
    generator = np.random.default_rng(0)
    env.reset(seed=0)

    def play() -> int:
        for actions in generator.integers(5, size=(THEIR_STEPS, env.n_agents)):
            if env.step(actions.tolist())[2]:
                env.reset()
        return THEIR_STEPS

    return play


def play_ours(registration: str, n_rows: int) -> Play:
    family = Registered("warehouse", RegisteredConfig(registration=registration), np.random.default_rng(0))
    spec, generator = family.spec, torch.Generator().manual_seed(0)
    batch, tasks = family.make(n_rows, torch.device("cpu"), generator), torch.zeros(n_rows, dtype=torch.int64)
    batch.reset(tasks)

    def play() -> int:
        shape = (STEPS, n_rows, spec.n_agents)
        for action in torch.randint(spec.action_dim, shape, generator=generator):
            result = batch.step(action)
            is_over = result.terminated | result.truncated
            if is_over.any():
                batch.reset(tasks, is_over)
        return STEPS * n_rows

    return play


def main(words: list[str]) -> None:
    torch.set_num_threads(1)
    chosen = [word.removeprefix(REGISTRATION) for word in words if word.startswith(REGISTRATION)]
    sizes = [int(word) for word in words if word.isdecimal() and int(word)] or list(N_ROWS)
    if unknown := [word for word in words if not word.isdecimal() and not word.startswith(REGISTRATION)]:
        sys.exit(f"{' '.join(unknown)}: expected numbers of rows, or {REGISTRATION}NAME")
    print_heading("rware", [f"{n:,} rows" for n in sizes])
    for registration in chosen or ["tiny-4ag"]:
        print_rates(registration, play_rware(registration), [play_ours(registration, n) for n in sizes])


if __name__ == "__main__":
    main(sys.argv[1:])
