"""Environment steps per second of meta-training, all updates included, and where the time goes.

    python -m benchmarks.training_throughput [env=mpe-spread] [algo=NAME ...] [n_threads=2]
    torchrun --nproc-per-node=2 -m benchmarks.training_throughput ... n_threads=1   the rows divided among processes

Recipes in turn, an iteration each, so that all see the same machine: unless others are named, `mg2l_kalei` with its own
settings, and `mg2l` with those of the original code (15 full-batch epochs, 256 wide, a network per agent, 50 encoder
updates), whose released implementation made 390 to 510 steps per second of mpe-spread on two cores. Medians over
iterations after the first.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import torch

from mg2l_kalei.config import load
from mg2l_kalei.processes import Processes, joined
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA, build

RECIPES = ("mg2l_kalei", "mg2l")
ITERATIONS = 12
STEADY = ("context.n_early_iterations=0",)  # the rate of most of a run, not of its first iterations
ORIGINAL = (390, 510)  # env steps/s of the released code
SHARES = ("environment", "acting", "inference", "update")
FIGURES = ("time/env_steps_per_s", *(f"time/{share}_share" for share in SHARES))


def trainer(recipe: str, words: list[str], bad_batch: Path, processes: Processes) -> MetaTrainer:
    config = load([f"--algo={recipe}", *STEADY, *words], SCHEMA, CONFIG_DIR).config
    if config.n_threads:
        torch.set_num_threads(config.n_threads)
    return MetaTrainer(build(config, torch.device("cpu"), processes=processes), bad_batch)


def main(words: list[str]) -> None:
    recipes = [word.removeprefix("algo=") for word in words if word.startswith("algo=")] or list(RECIPES)
    words = [word for word in words if not word.startswith("algo=")]
    with tempfile.TemporaryDirectory() as folder, joined(on_gpu=False) as processes:
        trainers = {recipe: trainer(recipe, words, Path(folder) / "bad_batch", processes) for recipe in recipes}
        rows: dict[str, list[list[float]]] = {recipe: [] for recipe in recipes}
        for _ in range(ITERATIONS):
            for recipe in recipes:
                if processes.rank:
                    processes.told()  # the first process's order to begin
                metrics = trainers[recipe].iterate()
                rows[recipe].append([float(metrics[name]) for name in FIGURES])
    if processes.rank:
        return
    family = trainers[recipes[0]].system.family.name
    threads = f"{processes.size} x {torch.get_num_threads()} threads"
    print(f"{family}, {threads}, median of {ITERATIONS - 1} iterations")
    print(f"{'':>12}  env steps/s" + "".join(f"{share:>13}" for share in SHARES))
    medians = {}
    for recipe, measured in rows.items():
        medians[recipe] = [statistics.median(column) for column in zip(*measured[1:], strict=True)]
        rate, *shares = medians[recipe]
        print(f"{recipe:>12}  {rate:>11,.0f}" + "".join(f"{share:>13.0%}" for share in shares))
    if "mg2l" in medians and family == "mpe-spread":
        low, high = (medians["mg2l"][0] / peer for peer in reversed(ORIGINAL))
        print(f"mg2l against the original's {ORIGINAL[0]} to {ORIGINAL[1]}: {low:.1f} to {high:.1f} times")


if __name__ == "__main__":
    main(sys.argv[1:])
