"""Environment steps per second of mpe2's scenarios: batched rows beside mpe2's parallel environments, on one thread.

    python -m benchmarks.mpe_throughput [scenario=NAME ...] [compile=true] [n_rows ...]

One step moves all agents of one row, opponents too. Both play random discrete actions through whole episodes, resets
included, in turn within one run, so that both see the same machine. Medians over rounds; needs mpe2. ``compile=true``
adds columns for steps compiled by torch, which needs a C++ compiler; what compiling takes is shown, not counted.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from types import ModuleType

import numpy as np
import torch
from mpe2 import simple_adversary_v3, simple_reference_v3, simple_speaker_listener_v4, simple_spread_v3, simple_tag_v3

from benchmarks.side_by_side import Play, print_heading, print_rates
from envs import ENVS, make_family
from envs.core import TaskFamily

EPISODES = 20  # of mpe2 in a round, and of every row of ours
N_ROWS = (32, 1024)
SCENARIOS = {
    "mpe-simple-adversary": simple_adversary_v3,
    "mpe-simple-reference": simple_reference_v3,
    "mpe-simple-speaker-listener": simple_speaker_listener_v4,
    "mpe-simple-spread": simple_spread_v3,
    "mpe-simple-tag": simple_tag_v3,
}


def play_mpe2(scenario: ModuleType) -> int:
    """Steps made."""
    env, generator = scenario.parallel_env(), np.random.default_rng(0)
    n_steps = 0
    for episode in range(EPISODES):
        env.reset(seed=episode)
        numbers = [int(env.action_space(agent).n) for agent in env.agents]
        for actions in generator.integers(numbers, size=(env.unwrapped.max_cycles, len(numbers))):
            env.step(dict(zip(env.agents, actions.tolist(), strict=True)))
            n_steps += 1
    return n_steps


def player(family: TaskFamily, n_rows: int, is_compiled: bool) -> Play:
    """What plays a round of ours, and says how many steps it made."""
    spec, generator = family.spec, torch.Generator().manual_seed(0)
    env, task = family.make(n_rows, torch.device("cpu"), generator), torch.zeros(n_rows, dtype=torch.int64)
    n_actions = torch.tensor(spec.action_sizes or (spec.action_dim,) * spec.n_agents)
    step = torch.compile(env.step, dynamic=False) if is_compiled else env.step

    def play() -> int:
        for _ in range(EPISODES):
            env.reset(task)
            actions = torch.rand(spec.episode_steps, n_rows, spec.n_agents, generator=generator) * n_actions
            for action in actions.long():
                step(action)
        return EPISODES * spec.episode_steps * n_rows

    return play


def all_learning(name: str) -> TaskFamily:
    """A scenario in which every agent is given actions, as in mpe2."""
    config = ENVS[name][1]
    if hasattr(config, "opponents"):
        config = replace(config, opponents="learning")
    return make_family(name, config, np.random.default_rng(0))


def report(name: str, sizes: list[int], kinds: list[bool]) -> None:
    """A line of the table."""
    torch.compiler.reset()
    plays = [player(all_learning(name), n, is_compiled) for is_compiled in kinds for n in sizes]
    print_rates(name.removeprefix("mpe-simple-"), partial(play_mpe2, SCENARIOS[name]), plays)


def main(words: list[str]) -> None:
    torch.set_num_threads(1)
    known = {"compile=true", *(f"scenario={name}" for name in SCENARIOS)}
    if unknown := [word for word in words if word not in known and not word.isdecimal()]:
        sys.exit(f"{' '.join(unknown)}: expected numbers of rows, compile=true, or scenario= {', '.join(SCENARIOS)}")
    names = [word.removeprefix("scenario=") for word in words if word.startswith("scenario=")] or list(SCENARIOS)
    kinds = [False, True] if "compile=true" in words else [False]
    sizes = [int(word) for word in words if "=" not in word] or list(N_ROWS)
    heads = [f"{n:,} rows{', compiled' if is_compiled else ''}" for is_compiled in kinds for n in sizes]
    print_heading("mpe2", heads)
    for name in names:
        report(name, sizes, kinds)


if __name__ == "__main__":
    main(sys.argv[1:])
