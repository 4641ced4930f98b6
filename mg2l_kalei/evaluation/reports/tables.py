"""A report's numbers as rows, and rows as CSV, Parquet, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mg2l_kalei.disk.durable import replacing
from mg2l_kalei.evaluation.report import decimals_for
from mg2l_kalei.evaluation.reports.estimates import Entry, Section
from mg2l_kalei.evaluation.statistics import CONFIDENCE, Estimate

LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
}

Table = list[list[str]]  # rows of cells, the heading first


class Row(NamedTuple):
    """One number and its interval."""

    family: str
    split: str
    method: str
    role: str
    quantity: str  # "return", "score", "gap" (oracle - none), "improvement" (probability to return more than another)
    over: str  # the other method, of an improvement
    k: int
    value: float | None  # None: there is no gap to score by
    low: float | None
    high: float | None
    n_seeds: int
    n_tasks: int
    n_trials: int
    env_steps: int  # the most that one of its seeds was trained for


def rows_of(sections: Sequence[Section]) -> list[Row]:
    """All estimates of a report."""
    return [
        Row(
            section.family,
            section.split,
            entry.label,
            entry.method.role,
            quantity,
            over,
            k,
            _finite(estimate.value[k]),
            _finite(estimate.low[k]),
            _finite(estimate.high[k]),
            len(entry.results),
            len(entry.results[0].tasks),
            entry.n_trials,
            max(entry.env_steps),
        )
        for section in sections
        for entry in section.entries
        for quantity, over, estimate in _quantities(entry)
        for k in range(section.n_episodes)
    ]


def _finite(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _quantities(entry: Entry) -> Iterator[tuple[str, str, Estimate]]:
    yield "return", "", entry.estimate
    if entry.score is not None:
        yield "score", "", entry.score.score
        yield "gap", "", entry.score.gap
    for other, estimate in entry.beats.items():
        yield "improvement", other, estimate


def to_csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([Row._fields, *rows])
    return text.getvalue()


def write_parquet(path: Path, rows: Sequence[Row]) -> None:
    """Raises ImportError where pyarrow is not installed."""
    import pyarrow
    from pyarrow import parquet

    columns: dict[str, Any] = dict(zip(Row._fields, map(list, zip(*rows, strict=True)), strict=True))
    with replacing(path) as temporary:
        parquet.write_table(pyarrow.table(columns), temporary)


def tables_of(section: Section) -> list[Table]:
    """The section's estimates; and of several methods, every one against every other."""
    return [_estimates(section), _pairs(section)][: len(section.entries)]


def _estimates(section: Section) -> Table:
    """A heading, and a row for each method from the best."""
    episodes = range(section.n_episodes)
    heading = ["method", *(f"return, k = {k}" for k in episodes)]
    scored = any(entry.score for entry in section.entries)
    compared = any(entry.improvement for entry in section.entries)
    last = section.n_episodes - 1
    heading += [f"score, k = {k}" for k in episodes if scored]
    heading += [f"P(better than none), k = {last}"] * compared + ["seeds", "env steps"]
    decimals = decimals_for([entry.estimate for entry in section.entries])
    table = [heading]
    for entry in section.entries:
        cells = [entry.label, *(_cell(entry.estimate, k, decimals) for k in episodes)]
        cells += [_cell(entry.score.score, k, 2) if entry.score else "" for k in episodes if scored]
        cells += [_cell(entry.improvement, last, 2) if entry.improvement else ""] * compared
        table.append([*cells, str(len(entry.results)), " ".join(f"{n:,}" for n in entry.env_steps)])
    return table


def _pairs(section: Section) -> Table:
    """A heading, and a row for each method; a column for each too."""
    labels, last = [entry.label for entry in section.entries], section.n_episodes - 1
    table = [[f"P(row better than column), k = {last}", *labels]]
    for entry in section.entries:
        better = {label: _cell(estimate, last, 2) for label, estimate in entry.beats.items()}
        table.append([entry.label, *(better.get(label, "") for label in labels)])
    return table


def _cell(estimate: Estimate, k: int, decimals: int) -> str:
    value, low, high = (part[k] for part in estimate)
    return "no gap" if np.isnan(value) else f"{value:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def caption(section: Section) -> str:
    """How large the evaluation was, and what the numbers are."""
    result = section.entries[0].results[0]
    tasks = f"{len(result.tasks)} task{'s' * (len(result.tasks) > 1)}"
    size = f"{tasks}, {section.n_episodes} episodes of {result.episode_steps} steps per trial"
    actions = "" if result.actions == "mode" else f", actions {result.actions}"
    return f"{size}{actions}. Return of episode k: IQM [{CONFIDENCE:.0%} stratified bootstrap interval]."


def to_markdown(sections: Sequence[Section]) -> str:
    blocks = ["# Adaptation"]
    for section in sections:
        blocks += [f"## {section.title}", caption(section), *(_piped_table(table) for table in tables_of(section))]
        blocks += ["\n".join(f"- {note}" for note in section.notes)] if section.notes else []
    return "\n\n".join(blocks) + "\n"


def _piped_table(table: Table) -> str:
    heading, *rows = table
    return "\n".join([_piped(heading), _piped(["---"] * len(heading)), *map(_piped, rows)])


def _piped(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def to_latex(sections: Sequence[Section]) -> str:
    """A ``table`` for each table of a section, for documents that use ``booktabs``."""
    blocks = []
    for section in sections:
        notes = " ".join([caption(section), *(f"{note}." for note in section.notes)])
        said = [f"{section.title}: {notes}", f"{section.title}: every method against every other."]
        blocks += [_tabular(table, text) for table, text in zip(tables_of(section), said, strict=False)]
    return "\n\n".join(blocks) + "\n"


def _tabular(table: Table, said: str) -> str:
    heading, *body = [" & ".join(map(_latex, row)) + r" \\" for row in table]
    lines = [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{l{'r' * (len(table[0]) - 1)}}}", r"\toprule"]
    lines += [heading, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, rf"\caption{{{_latex(said)}}}", r"\end{table}"])


def _latex(text: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in text)
