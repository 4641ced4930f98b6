"""What teams earn by parameter sharing: sums over agents, the unit of SePS and HyperMARL, from raw results.

``python -m benchmarks.team_returns mpe-blind-spread-v1 15 nops seps``: the family as raw results in ``assets/results``
name it, how many agents it has, the lines. For each line the mean over all episodes of a seed, over seeds with their
standard deviation, and single seeds.
"""

from __future__ import annotations

import sys

import numpy as np

from benchmarks.raw_scores import RESULTS, raw_returns


def main(family: str, n_agents: int, lines: list[str]) -> None:
    for line in lines:
        seeds = np.array([n_agents * returns.mean() for returns in raw_returns(family, line, "train")])
        if not len(seeds):
            raise SystemExit(f"no raw results of {line} on {family} in {RESULTS}")
        spread = f" ± {seeds.std(ddof=1):.1f}" if len(seeds) > 1 else ""
        print(f"{line:14} {seeds.mean():.1f}{spread}   seeds: {', '.join(f'{seed:.1f}' for seed in seeds)}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
