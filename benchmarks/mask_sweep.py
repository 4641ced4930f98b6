"""How fast should thresholds learn, and where begin? Two agents who must take turns on the same observation.

``python -m benchmarks.mask_sweep OUT.json [LINE ...]`` trains ``toy-turns`` for 10,240 environment steps per line (all,
or those that are named), width and seed, with and without ids, and prints for each the mean return of the last five
rollouts (8 is the most, 4 what agents who act alike can have) and how far the two masks differ, over five seeds.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import torch

from mg2l_kalei.config import load
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA, build

SEEDS, WIDTHS, LAST = range(5), (32, 64, 128), 5
SETTINGS = ("--env=toy-turns", "n_rows=32", "n_epochs=4", "n_minibatches=4", "n_iters=40")
ALIKE = ("sharing.threshold_bias=5", "sharing.threshold_scale=5")  # as published: masks differ in 1 % of the weights
APART = ("sharing.threshold_bias=1", "sharing.threshold_scale=6")
LINES = {
    "full": ("sharing=full",),
    "independent": ("sharing=independent",),
    **{f"rate {rate}": (f"sharing.threshold_lr={rate}", *ALIKE) for rate in ("null", "0.01", "0.03", "0.1", "0.3")},
    **{f"apart, rate {rate}": (f"sharing.threshold_lr={rate}", *APART) for rate in ("null", "0.03", "0.1", "0.3")},
}


def main(out: Path, named: list[str]) -> None:
    if strange := [line for line in named if line not in LINES]:
        raise SystemExit(f"{strange[0]}: expected any of {', '.join(LINES)}")
    results = {}
    lines = {line: LINES[line] for line in named or LINES}
    for has_ids, width, (line, words) in itertools.product((False, True), WIDTHS, lines.items()):
        setting = (f"network.agent_id={str(has_ids).lower()}", f"network.hidden=[{width},{width}]")
        seeds = [_train((*SETTINGS, *setting, *words, f"seed={seed}")) for seed in SEEDS]
        results[f"{line}, width {width}, {'ids' if has_ids else 'no ids'}"] = seeds
        returns, differences = np.array(seeds).T
        spread = f"{returns.mean():.2f} ± {returns.std(ddof=1):.2f}"
        print(f"{'ids' if has_ids else 'no ids':7} {width:4} {line:12} {spread}   {differences.mean():.3f}", flush=True)
    out.write_text(json.dumps(results, indent=1) + "\n")


def _train(words: tuple[str, ...]) -> tuple[float, float]:
    """Mean return of the last rollouts, and the share of weights that one of the two agents masks."""
    config = load(["--algo=kaleidoscope", *words], SCHEMA, CONFIG_DIR).config
    trainer = MetaTrainer(build(config, torch.device("cpu")), Path("unused"))
    logged = [trainer.iterate() for _ in range(config.n_iters)]
    returns = [float(metrics["train/episode_return"]) for metrics in logged[-LAST:]]
    return sum(returns) / LAST, float(logged[-1].get("sharing/mask_difference", 0.0))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
