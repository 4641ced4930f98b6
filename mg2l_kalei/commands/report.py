"""``python -m mg2l_kalei report``: tables, figures and a page over many runs, from what they stored."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from envs.core import setting
from envs.extras import install
from mg2l_kalei.config import ConfigError
from mg2l_kalei.config.options import read_options
from mg2l_kalei.config.settings import problem
from mg2l_kalei.disk.durable import read_bounded, write_atomically, write_json
from mg2l_kalei.disk.output import say
from mg2l_kalei.evaluation.figures import save_picture
from mg2l_kalei.evaluation.reports.estimates import Section, sections_of
from mg2l_kalei.evaluation.reports.marl_eval import to_marl_eval
from mg2l_kalei.evaluation.reports.page import to_html
from mg2l_kalei.evaluation.reports.pictures import figures_of
from mg2l_kalei.evaluation.reports.stored import find_runs
from mg2l_kalei.evaluation.reports.tables import rows_of, to_csv, to_latex, to_markdown, write_parquet
from mg2l_kalei.training.system import SCHEMA

MAX_LIST = 1 << 20  # bytes of the list of pictures that is read


@dataclass(frozen=True)
class ReportOptions:
    out: str = setting("report", "folder for all that is written")
    resamples: int = setting(2000, "resamples of each bootstrap interval", low=100)


def report(words: Sequence[str]) -> int:
    """Methods beside each other on every family and split that they were evaluated on; nothing is played.

    Exit code 1 where a picture could not be written. Raises Refusal where runs must not be compared.
    """
    paths, options = read_options(words, ReportOptions())
    if not paths:
        raise ConfigError(["report: expected folders of runs, or files of raw results"])
    if Path(options.out).exists() and not Path(options.out).is_dir():
        raise ConfigError([problem("command line", "out", options.out, "a file, expected a folder")])
    runs = find_runs(paths, SCHEMA)
    sections = sections_of(runs, options.resamples)
    out = Path(options.out)
    _write_tables(sections, out)
    _begin_pictures(sections, out / "figures")
    gc.freeze()  # what was read stays to the end: no need to look through it after every few pictures
    try:
        pictures, is_drawn = _write_pictures(sections, out)
    finally:
        gc.unfreeze()
    write_atomically(out / "index.html", to_html(sections, pictures, out))
    say(f"{len(runs)} runs, {len(sections)} tables: {out / 'index.html'}")
    return 0 if is_drawn else 1


def _write_tables(sections: Sequence[Section], out: Path) -> None:
    rows = rows_of(sections)
    write_atomically(out / "report.md", to_markdown(sections))
    write_atomically(out / "report.tex", to_latex(sections))
    write_atomically(out / "scores.csv", to_csv(rows))
    write_atomically(out / "marl_eval.json", json.dumps(to_marl_eval(sections), allow_nan=False))
    try:
        write_parquet(out / "scores.parquet", rows)
    except ImportError:
        (out / "scores.parquet").unlink(missing_ok=True)  # of an earlier report
        say(f"scores.parquet is not written: it needs pyarrow, {install('report')}")


def _stem(section: Section, kind: str) -> str:
    name = "".join(sign if sign.isalnum() else "-" for sign in f"{section.family}-{section.split}")
    return f"{name}-{kind}"


def _begin_pictures(sections: Sequence[Section], figures: Path) -> None:
    """Remove those of the report that was here before, which it listed, and list those that are to come."""
    listed = figures / "figures.json"
    with suppress(OSError, ValueError, TypeError, RecursionError):  # there was none, or it is not ours
        for stem in json.loads(read_bounded(listed, MAX_LIST)):
            for suffix in (".png", ".pdf"):
                (figures / Path(f"{stem}{suffix}").name).unlink(missing_ok=True)
    write_json(listed, [_stem(section, kind) for section in sections for kind in figures_of(section)])


def _write_pictures(sections: Sequence[Section], out: Path) -> tuple[dict[tuple[str, str], dict[str, bytes]], bool]:
    """PNGs by family and split, and by what they show; False: some were not written."""
    pictures: dict[tuple[str, str], dict[str, bytes]] = {}
    is_drawn = True
    for section in sections:
        drawn = pictures.setdefault((section.family, section.split), {})
        for kind, draw in figures_of(section).items():
            png, pdf = (out / "figures" / f"{_stem(section, kind)}{suffix}" for suffix in (".png", ".pdf"))
            if save_picture(png, draw, pdf):
                drawn[kind] = png.read_bytes()
            is_drawn &= kind in drawn
    return pictures, is_drawn
