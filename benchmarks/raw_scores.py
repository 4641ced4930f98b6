"""Returns and adaptation scores of a line of the results, from the raw results in ``assets/results``.

``python benchmarks/raw_scores.py mpe-wind rl2 test``: the family, the line, the split. Scores are between its ``none``
(``mappo``) and ``oracle``, "no gap" where these two are not apart by more than their intervals; of lines that were
evaluated with more trials per task, the first that all have are taken. Of single seeds, means.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np

from mg2l_kalei.evaluation.statistics import Array, Estimate, adaptation_score, estimate
from mg2l_kalei.seeding import numpy_generator

RESULTS = Path(__file__).parents[1] / "assets" / "results"


def raw_returns(family: str, line: str, split: str) -> list[Array]:
    """Of each seed: (n_tasks, n_trials, n_episodes)."""
    paths = sorted(RESULTS.glob(f"{family}-{line}-s?-{split}.json.gz")) or sorted(
        RESULTS.glob(f"{family}-{line}-s?.json")
    )
    texts = [gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in paths]
    return [np.array(json.loads(text)["returns"], dtype=np.float32) for text in texts]


def shown(figure: Estimate) -> str:
    """At each k, with its interval."""
    texts = (f"{v:.2f} [{low:.2f}, {high:.2f}]" for v, low, high in zip(*figure, strict=True))
    return "  ".join("no gap" if "nan" in text else text for text in texts)


def main(family: str, line: str, split: str) -> None:
    lines = {name: raw_returns(family, name, split) for name in dict.fromkeys((line, "mappo", "oracle"))}
    lacking = [name for name, seeds in lines.items() if not seeds]
    if lacking:
        raise SystemExit(f"no raw results of {', '.join(lacking)} on {family}, {split}, in {RESULTS}")
    n_trials = min(returns.shape[1] for seeds in lines.values() for returns in seeds)
    generator = numpy_generator(0, "bootstrap")
    print(f"{family}, {split}: {line}, {len(lines[line])} seeds")
    print("return ", shown(estimate(np.stack(lines[line]), generator)))
    print("seeds  ", "; ".join(", ".join(f"{v:.2f}" for v in seed.mean((0, 1))) for seed in lines[line]))
    ours, none, oracle = (
        np.stack([returns[:, :n_trials] for returns in lines[name]]) for name in (line, "mappo", "oracle")
    )
    with np.errstate(divide="ignore", invalid="ignore"):  # where there is no gap
        print("score  ", shown(adaptation_score(ours, none, oracle, generator).score))


if __name__ == "__main__":
    main(*sys.argv[1:4])
