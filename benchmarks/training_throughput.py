"""Environment steps per second of meta-training, all updates included, and where the time goes.

    python -m benchmarks.training_throughput [env=mpe-spread] [algo=NAME ...] [n_rows=1024,4096] [device=cuda] ...
    torchrun --nproc-per-node=2 -m benchmarks.training_throughput ... n_threads=1   the rows divided among processes

Recipes, with each number of rows, in turn, an iteration each, so that all see the same machine: unless others are
named, `mg2l_kalei` with its own settings, and `mg2l` with those of the original code (15 full-batch epochs, 256 wide, a
network per agent, 50 encoder updates), whose released implementation made 390 to 510 steps per second of mpe-spread on
two cores. Medians over iterations after the first. `products`: the share of the update's time that its matrix products,
forward and backward, take by themselves, each on numbers that are at hand; the rest is what there is to save.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.matrix_products import Product, Recorded, seconds_alone
from mg2l_kalei.config import load
from mg2l_kalei.processes import Processes, joined
from mg2l_kalei.training.heap import keep_freed_memory
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA, build, choose_device
from mg2l_kalei.types import Metrics

RECIPES = ("mg2l_kalei", "mg2l")
ITERATIONS = 12
STEADY = ("context.n_early_iterations=0", "device=cpu")  # the rate of most of a run, not of its first iterations
ORIGINAL = (390, 510)  # env steps/s of the released code
SHARES = ("environment", "acting", "inference", "update")
FIGURES = ("time/env_steps_per_s", *(f"time/{share}_share" for share in SHARES), "time/iteration_s")


def trainer(recipe: str, words: list[str], bad_batch: Path, processes: Processes) -> MetaTrainer:
    named = {word.lstrip("-").partition("=")[0] for word in words}
    steady = [word for word in STEADY if word.partition("=")[0] not in named]
    config = load([f"--algo={recipe}", *steady, *words], SCHEMA, CONFIG_DIR).config
    if config.n_threads:
        torch.set_num_threads(config.n_threads)
    keep_freed_memory()
    device, warning = choose_device(config)
    if warning:
        sys.exit(warning)
    return MetaTrainer(build(config, device, processes=processes), bad_batch)


def iterate(of: MetaTrainer) -> list[float]:
    """Figures of an iteration, in their order."""
    if of.system.processes.rank:
        of.system.processes.told()  # the first process's order to begin
    metrics = of.iterate()
    return [float(metrics[name]) for name in FIGURES]


def main(words: list[str]) -> None:
    recipes = [word.removeprefix("algo=") for word in words if word.startswith("algo=")] or list(RECIPES)
    sizes = [word.removeprefix("n_rows=").split(",") for word in words if word.startswith("n_rows=")]
    rows = [[f"n_rows={n}"] for n in sizes[0]] if sizes else [[]]
    words = [word for word in words if not word.startswith(("algo=", "n_rows="))]
    with tempfile.TemporaryDirectory() as folder, joined(on_gpu="device=cuda" in words) as processes:
        bad_batch = Path(folder) / "bad_batch"
        trainers = {(a, *n): trainer(a, [*words, *n], bad_batch, processes) for a in recipes for n in rows}
        measured: dict[tuple[str, ...], list[list[float]]] = {side: [] for side in trainers}
        products = {side: _products_of_an_update(of) for side, of in trainers.items()}
        for _ in range(ITERATIONS):
            for side, of in trainers.items():
                *figures, seconds = iterate(of)
                alone = seconds_alone(products[side], of.stopwatch.wait)
                measured[side].append([*figures, alone / (seconds * figures[-1])])
    if processes.rank:
        return
    first = next(iter(trainers.values()))
    threads = f"{processes.size} x {torch.get_num_threads()} threads"
    print(f"{first.system.family.name}, {first.device}, {threads}, median of {ITERATIONS - 1} iterations")
    medians = {
        side: [statistics.median(column) for column in zip(*of[1:], strict=True)] for side, of in measured.items()
    }
    _print(medians)
    if ("mg2l",) in medians and first.system.family.name == "mpe-spread":
        low, high = (medians["mg2l",][0] / peer for peer in reversed(ORIGINAL))
        print(f"mg2l against the original's {ORIGINAL[0]} to {ORIGINAL[1]}: {low:.1f} to {high:.1f} times")


def _products_of_an_update(of: MetaTrainer) -> Counter[Product]:
    """Those that the learner's update makes in an iteration, which is made."""
    learner, recorded = of.system.learner, Recorded()
    update = learner.update

    def watched(*given: Any) -> Metrics:
        with recorded:
            return update(*given)

    with patch.object(learner, "update", watched):
        iterate(of)
    return recorded.products


def _print(medians: dict[tuple[str, ...], list[float]]) -> None:
    heads = (*SHARES, "products")
    width = max(len(" ".join(side)) for side in medians)
    print(f"{'':>{width}}  env steps/s" + "".join(f"{head:>13}" for head in heads))
    for side, (rate, *shares) in medians.items():
        print(f"{' '.join(side):>{width}}  {rate:>11,.0f}" + "".join(f"{share:>13.0%}" for share in shares))


if __name__ == "__main__":
    main(sys.argv[1:])
