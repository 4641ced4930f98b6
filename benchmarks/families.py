"""Which families need their task inferred: the table of ``docs/results/families.md``, from ``assets/results``.

``python benchmarks/families.py [FAMILY ...]``: all that have raw results of ``none`` (recipe ``mappo``) and ``oracle``,
or those named. Judged as by ``python -m mg2l_kalei tasks certify``.
"""

from __future__ import annotations

import gzip
import re
import sys
from pathlib import Path

from mg2l_kalei.commands.certify import UNKNOWN, shown
from mg2l_kalei.evaluation.certificate import SPLITS, SplitCertificate, certify
from mg2l_kalei.evaluation.report import decimals_for
from mg2l_kalei.evaluation.results import AdaptationResult, from_json

RESULTS = Path(__file__).parents[1] / "assets" / "results"
FILES = {
    "none": "mappo",
    "memory": "mappo-recurrent",
    "oracle": "oracle",
    "centralised": "centralised",
}  # line -> what its files are called
INFERS = "mg2l_kalei"
HEADER = (
    "family",
    "tasks",
    "seeds",
    "`none`",
    "`oracle`",
    "gap in % of \\|`none`\\|",
    "passes",
    "left by memory within an episode",
    "z^i of `mg2l_kalei`: probe, worst agent (of the task itself; chance)",
    "one agent alone can tell",
    "shows within steps",
)


def families() -> list[str]:
    """Those with both reference lines."""
    with_line = [
        {path.name.partition(f"-{line}-s0")[0] for path in RESULTS.glob(f"*-{line}-s0*.json*")}
        for line in (FILES["none"], FILES["oracle"])
    ]
    return sorted(set.intersection(*with_line))


def raw_results(family: str, line: str) -> list[AdaptationResult]:
    """Of every split, and of every seed that acted as the first: by the mode of its policy, or sampled from it."""
    name = re.compile(rf"{re.escape(f'{family}-{line}')}-s\d+(-({'|'.join(SPLITS)}))?\.json(\.gz)?")
    paths = sorted(path for path in RESULTS.iterdir() if name.fullmatch(path.name))
    texts = (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in paths)
    results = [from_json(text.decode(), with_steps=False) for text in texts]
    return [result for result in results if result.actions == results[0].actions]


def rows(family: str) -> list[str]:
    """One for each split, in Markdown."""
    lines = {line: results for line, name in FILES.items() if (results := raw_results(family, name))}
    certificate = certify(lines, {INFERS: raw_results(family, INFERS)})
    return [f"| {' | '.join([f'`{family}`', *_cells(of)])} |" for of in certificate.splits]


def _cells(of: SplitCertificate) -> list[str]:
    if of.comparison is None or of.gap is None:
        return [SPLITS[of.split], *[UNKNOWN] * (len(HEADER) - 2)]
    estimates = {line.label: line.estimate for line in of.comparison.lines}
    n_seeds = min(len(line.seeds) for line in of.comparison.lines if line.label != "memory")
    n = decimals_for([*estimates.values()])
    returns = [
        "{:.{n}f} [{:.{n}f}, {:.{n}f}]".format(*(part[of.k] for part in estimates[line]), n=n)
        for line in ("none", "oracle")
    ]
    told = of.telling.get(INFERS)
    probe = [UNKNOWN] * 3
    if told is not None:
        readings = f"{told.mean:.2f}, {told.worst:.2f} ({told.given:.2f}; {told.chance:.2f})"
        probe = [readings, {True: "yes", False: "no", None: UNKNOWN}[told.is_known_to_each], str(told.steps or UNKNOWN)]
    passes = "**yes**" if of.is_passed else "no"
    return [SPLITS[of.split], str(n_seeds), *returns, shown(of.gap), passes, shown(of.left_by_memory), *probe]


def main(names: list[str]) -> None:
    print(f"| {' | '.join(HEADER)} |", "|---" * len(HEADER) + "|", sep="\n")
    for family in names or families():
        print("\n".join(rows(family)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
