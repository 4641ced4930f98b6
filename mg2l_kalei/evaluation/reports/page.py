"""A report as one HTML file that needs nothing beside it: figures are in it, films and settings are links."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from mg2l_kalei.evaluation.reports.estimates import Section
from mg2l_kalei.evaluation.reports.stored import StoredRun
from mg2l_kalei.evaluation.reports.tables import Table, caption, tables_of

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #222; background: #fff; margin: 0 auto;
  max-width: 75rem; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; border-top: 1px solid #ddd; padding-top: 1rem; }
nav ul { columns: 16rem; padding-left: 1.2rem; }
a { color: #0b57a4; }
.wide { overflow-x: auto; overflow-wrap: normal; }
table { border-collapse: collapse; font-size: .8rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .45rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #e5e5e5; }
th { white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 5rem; max-width: 18rem;
  position: sticky; left: 0; background: #fff; }
td:first-child { font-weight: 600; }
.notes { color: #444; font-size: .9rem; padding-left: 1.2rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 1rem; }
.figures figure { margin: 1rem 0 0; max-width: 40rem; } .figures img { width: 100%; height: auto; }
figcaption { font-size: .85rem; color: #444; }
details { margin-top: 1rem; } summary { cursor: pointer; }
"""
CAPTIONS = {
    "returns": "Return of episode k of a trial",
    "profile": "Performance profile: share of trials above each return",
    "improvement": "Probability of improvement: that a trial of the row's method returns more than one of the column's",
    "efficiency": "Sample efficiency, as evaluated during training",
    "cost": "What adapting costs: steps on the task, of a trial or of training on it alone",
}


def to_html(sections: Sequence[Section], pictures: Mapping[tuple[str, str], Mapping[str, bytes]], out: Path) -> str:
    """``pictures``: of each family and split, PNGs by the end of their file's name. Links are relative to ``out``."""
    entries = [f'<li><a href="#s{n}">{escape(section.title)}</a></li>' for n, section in enumerate(sections)]
    parts = [_section(n, section, pictures, out) for n, section in enumerate(sections)]
    files = ("report.md", "report.tex", "scores.csv", "scores.parquet", "marl_eval.json")
    links = ", ".join(f'<a href="{name}">{name}</a>' for name in files if (out / name).is_file())
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Adaptation report</title>\n<style>{STYLE}</style>\n</head>\n<body>",
            f"<h1>Adaptation report</h1>\n<p>The same numbers: {links}.</p>",
            f"<nav><ul>{''.join(entries)}</ul></nav>",
            *parts,
            "</body>\n</html>\n",
        ]
    )


def _section(number: int, section: Section, pictures: Mapping[tuple[str, str], Mapping[str, bytes]], out: Path) -> str:
    estimates, *pairs = map(_table, tables_of(section))
    notes = "".join(f"<li>{escape(note)}</li>" for note in section.notes)
    figures = "".join(
        f'<figure><img alt="{escape(f"{CAPTIONS[name]}, {section.title}")}" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        f"<figcaption>{CAPTIONS[name]}</figcaption></figure>"
        for name, png in pictures[section.family, section.split].items()
    )
    return "\n".join(
        [
            f'<section id="s{number}"><h2>{escape(section.title)}</h2>\n<p>{escape(caption(section))}</p>',
            estimates,
            f'<ul class="notes">{notes}</ul>' if notes else "",
            f'<div class="figures">{figures}</div>',
            *(f"<details><summary>Every method against every other</summary>{table}</details>" for table in pairs),
            _runs(section, out),
            "</section>",
        ]
    )


def _table(table: Table) -> str:
    heading, *rows = table
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heading)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _runs(section: Section, out: Path) -> str:
    """Where each run of the section is, its settings and its films."""
    lines = []
    for entry in section.entries:
        for run in entry.method.runs:
            if section.split not in [result.split for result in run.results]:
                continue
            films = "".join(f", {_link(film, out, f'film {film.name}')}" for film in run.films)
            settings = _link(run.settings_file, out, "settings")
            lines.append(f"<li>{escape(entry.label)}, {_seed(run)}: {settings}{films}</li>")
    return f"<details><summary>Runs: settings and films ({len(lines)})</summary><ul>{''.join(lines)}</ul></details>"


def _seed(run: StoredRun) -> str:
    return f"seed {run.seed}, {escape(run.path.name)}"


def _link(path: Path, out: Path, text: str) -> str:
    relative = Path(os.path.relpath(path.resolve(), out.resolve())).as_posix()
    return f'<a href="{escape(quote(relative))}">{escape(text)}</a>'
