"""``mg2l-kalei tasks certify``: does a family need its task inferred? From what trained runs stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from envs.core import Refusal, setting
from mg2l_kalei.config import ConfigError
from mg2l_kalei.config.options import read_options
from mg2l_kalei.disk.output import say
from mg2l_kalei.evaluation.certificate import (
    ENOUGH,
    LINES,
    SPLITS,
    Certificate,
    Gap,
    SplitCertificate,
    Telling,
    certify,
)
from mg2l_kalei.evaluation.report import aligned, decimals_for
from mg2l_kalei.evaluation.reports.methods import ADAPTED, Method, families_of, methods_of, refuse_unlike
from mg2l_kalei.evaluation.reports.stored import StoredRun, find_runs
from mg2l_kalei.evaluation.results import AdaptationResult
from mg2l_kalei.training.system import SCHEMA

UNKNOWN = "not measured"


@dataclasses.dataclass(frozen=True)
class CertifyOptions:
    plugins: tuple[str, ...] = setting((), "modules that add the family")


def certify_family(family: str, words: Sequence[str]) -> int:
    """Judge the family by runs: none, oracle, and any with memory within an episode or a task encoder.

    Exit code 0: it passes; 1: it does not, or too little was measured. Nothing is played. Raises Refusal.
    """
    paths, _ = read_options(words, CertifyOptions())
    if not paths:
        raise ConfigError([f"tasks certify {family}: expected folders of runs, or files of raw results"])
    runs = find_runs(paths, SCHEMA)
    others = [of for name, of in families_of(runs).items() if name != family]
    if others:
        stranger = others[0][0]
        raise Refusal(f"{stranger.path} is a run on {stranger.results[0].family}, expected {family}")
    refuse_unlike(runs)
    methods = methods_of(runs)
    certificate = certify(_lines(methods), _inferring(methods))
    say(text(family, certificate))
    return 0 if certificate.is_passed else 1


def _line(method: Method) -> str:
    """What the method is here: one of the reference lines, "run" where it infers by an encoder, "" for any other."""
    encoder, memory = method.settings.get("encoder.kind"), method.settings.get("network.memory", "none")
    if ADAPTED.search(str(method.settings.get("algo"))):
        return ""
    if encoder == "none":
        return {"none": "none", "episode": "memory"}.get(memory, "")
    if method.settings.get("encoder.actors_see") == "global":
        return "centralised"
    return "oracle" if encoder == "oracle" else "run"


def _lines(methods: Sequence[Method]) -> dict[str, Sequence[AdaptationResult]]:
    """Results of the reference lines, by name. Raises Refusal where one lacks, or could be either of two methods."""
    lines: dict[str, Sequence[AdaptationResult]] = {}
    for name in LINES:
        of_name = [method for method in methods if _line(method) == name]
        if len(of_name) > 1:
            first, second, *_ = (method.runs[0].path for method in of_name)
            raise Refusal(f"{first} and {second} are both the line {name}, and no seeds of each other: expected one")
        if of_name:
            lines[name] = _results(of_name[0])
    if "none" not in lines and "memory" in lines:
        lines["none"] = lines["memory"]  # where all lines remember, this is what inference has to beat
    if lacking := [name for name in ("none", "oracle") if name not in lines]:
        raise Refusal(f"no run is the line {' or '.join(lacking)}: a gap needs both")
    return lines


def _inferring(methods: Sequence[Method]) -> dict[str, list[AdaptationResult]]:
    """What each run infers from its own play, and from that of teams that it looked on, by label."""
    inferring: dict[str, list[AdaptationResult]] = {}
    for method in methods:
        if _line(method) == "run":
            inferring[method.label] = _results(method)
            for run in method.runs:
                for result in _as_its_own(run):
                    who = " ".join(result.actions.split()[:2])  # the recipe, not which run of it
                    inferring.setdefault(f"{method.label}, of play {who}", []).append(result)
    return inferring


def _as_its_own(run: StoredRun) -> Iterator[AdaptationResult]:
    """What the run looked on at when it was evaluated itself, at the same moments; the rest is left out, in a line."""
    own = {result.split: result for result in run.results}
    for result in run.watched:
        mine = own.get(result.split)
        if mine and (mine.env_steps, mine.probe.steps) == (result.env_steps, result.probe.steps):
            yield result
        else:
            say(f"{run.path}: play {result.actions} on {result.split} is left out: watched at other steps than its own")


def _results(method: Method) -> list[AdaptationResult]:
    return [result for run in method.runs for result in run.results]


# --- in words ---------------------------------------------------------------------------------------------------------


def text(family: str, certificate: Certificate) -> str:
    """A column for each split, what to know of it, and the verdict in the last line."""
    splits = certificate.splits
    labels = list(dict.fromkeys(label for of in splits for label in of.telling))
    columns = [{"": SPLITS[of.split], **_returns(of), **_gaps(of), **_tellings(of, labels)} for of in splits]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    notes = dict.fromkeys(note for of in splits if of.comparison for note in of.comparison.notes)
    title = f"{family}: return of episode k = {splits[0].k}, and what a linear probe reads at the end of a trial"
    verdict = f"{family} passes: the task is worth at least {100 * ENOUGH:.0f} % of |none|"
    if not certificate.is_passed:
        failed = [f"{SPLITS[of.split]} {shown(of.gap)}" for of in splits if not of.is_passed and of.split != "ood"]
        verdict = f"{family} does not pass, expected at least {100 * ENOUGH:.0f} % of |none|: {'; '.join(failed)}"
    return "\n".join([title, *notes, "", aligned(rows), "", verdict])


def shown(gap: Gap | None) -> str:
    """The gap in one cell."""
    if gap is None:
        return UNKNOWN
    return f"{100 * gap.share:,.0f} %" + (", intervals overlap" if gap.share > 0 and not gap.is_apart else "")


def _returns(of: SplitCertificate) -> dict[str, str]:
    lines = {line.label: line.estimate for line in of.comparison.lines} if of.comparison else {}
    cells = dict.fromkeys(("oracle", "memory", "none"), UNKNOWN)
    for name, estimate in lines.items():
        n = decimals_for([*lines.values()])
        value, low, high = (part[of.k] for part in estimate)
        cells[name] = f"{value:.{n}f} [{low:.{n}f}, {high:.{n}f}]"
    return cells


def _gaps(of: SplitCertificate) -> dict[str, str]:
    left = of.left_by_memory
    closing = UNKNOWN if left is None else closed(left) if of.is_passed else "no gap"
    return {
        "oracle - none, in % of |none|": shown(of.gap),
        "is the task worth knowing?": UNKNOWN if of.gap is None else _yes(of.gap.is_enough),
        "oracle - memory, in % of |none|": shown(left),
        "is memory within an episode enough?": closing,
    }


def _tellings(of: SplitCertificate, labels: Sequence[str]) -> dict[str, str]:
    """Of the task itself, and of each run that infers; without any, that nothing was measured."""
    itself = next((f"{told.given:.2f}; {told.chance:.2f}" for told in of.telling.values()), UNKNOWN)
    team = next((f"{told.team:.2f}" for told in of.telling.values() if not np.isnan(told.team)), UNKNOWN)
    cells = {"probe of the task's features; chance": itself, "probe of z, of all agents together": team}
    for label in labels or ["a run that infers"]:
        told = of.telling.get(label)
        cells |= {
            f"{label}: probe of z^i; worst agent": UNKNOWN if told is None else f"{told.mean:.2f}; {told.worst:.2f}",
            f"{label}: can one agent alone tell the task?": UNKNOWN if told is None else _alone(told),
            f"{label}: steps within which it shows": UNKNOWN if told is None else str(told.steps or UNKNOWN),
        }
    return cells


def closed(left: Gap) -> str:
    """Whether memory is enough, by what it leaves to the oracle; a large part whose intervals overlap does not say."""
    return "no" if left.is_enough else "yes" if left.share < ENOUGH else "not known"


def _alone(told: Telling) -> str:
    is_so = told.is_known_to_each
    return f"{UNKNOWN} against z" if is_so is None else _yes(is_so)


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"
