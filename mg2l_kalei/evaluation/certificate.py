"""What trained references and runs say of a family: is its task worth knowing, and how can it be found out?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mg2l_kalei.evaluation.comparison import Comparison, compare
from mg2l_kalei.evaluation.results import AdaptationResult
from mg2l_kalei.evaluation.statistics import Estimate
from mg2l_kalei.seeding import numpy_generator

Results = Sequence[AdaptationResult]  # of the seeds of one method

SPLITS = {"train": "seen tasks", "test": "held-out tasks", "ood": "out of range"}
# memory: without a task encoder, with memory that ends with the episode; centralised: actors are told z, not z^i
LINES = ("none", "memory", "oracle", "centralised")
EPISODE = 1  # k at which returns are compared: the first episode that a belief is carried into
ENOUGH = 0.4  # of |none|: the least gap that task inference can be measured in
NEARLY = 0.9  # of the way from chance: as good as all of it
TOLD = 0.2  # above chance: a probe that reads less, of anything, tells nothing that could be compared
HALF = 0.5  # of the way from chance: a run that ends below it has not found the task out


class Gap(NamedTuple):
    """How far the oracle is ahead of another line, at one k."""

    share: float  # of |none|
    is_apart: bool  # the oracle's interval lies above the other's

    @property
    def is_enough(self) -> bool:
        """Whether inferring the task would show."""
        return self.is_apart and self.share >= ENOUGH


class Telling(NamedTuple):
    """How well a run's z^i tells the task to a linear probe; balanced accuracies."""

    mean: float  # over agents and seeds, at the end of the trial; NaN where it was not measured
    worst: float  # agent, at the end of the trial, mean over seeds
    given: float  # the same of what the oracle is given: as much as a linear probe can read
    team: float  # the same of z, which all agents infer together; NaN: no run's actors are told it
    chance: float
    steps: int | None  # of the trial, until ``NEARLY`` of the final reading above chance; None: it is not told

    def _way(self, accuracy: float, goal: float) -> float:
        """Part of the way from chance to ``goal``; NaN where neither is ``TOLD`` above chance, or the goal at it."""
        is_told = max(accuracy, goal) - self.chance >= TOLD and goal > self.chance
        return (accuracy - self.chance) / (goal - self.chance) if is_told else float("nan")

    @property
    def is_known(self) -> bool:
        """Whether the run found the task out at all."""
        return self._way(self.mean, self.given) >= HALF

    @property
    def is_known_to_each(self) -> bool | None:
        """Whether each agent tells the task from what it saw itself, the worst one too, as well as from what all saw.

        None: nobody knows. What z^i lacks, z may lack too, unless z was measured and tells the task itself.
        """
        if self._way(self.worst, self.given) >= NEARLY:
            return True
        is_told_by_team = self._way(self.team, self.given) >= HALF
        return self._way(self.worst, self.team) >= NEARLY if is_told_by_team else None


class SplitCertificate(NamedTuple):
    """What is known of one split."""

    split: str
    k: int  # episode at which returns were compared
    comparison: Comparison | None  # of oracle, none, and memory where there is such a run; None: none or oracle lacks
    gap: Gap | None  # to none
    left_by_memory: Gap | None  # to memory within an episode; None: no such run
    telling: Mapping[str, Telling]  # by label of the run that infers

    @property
    def is_passed(self) -> bool:
        return self.gap is not None and self.gap.is_enough


class Certificate(NamedTuple):
    """Whether a family needs its task inferred: on seen and held-out tasks it must, out of range it may."""

    splits: tuple[SplitCertificate, ...]

    @property
    def is_passed(self) -> bool:
        return all(of_split.is_passed for of_split in self.splits if of_split.split != "ood")


def certify(lines: Mapping[str, Results], inferring: Mapping[str, Results]) -> Certificate:
    """Judge a family by results of all splits: ``lines`` are called as in ``LINES``, runs that infer by their label.

    What no result speaks of is not measured, and seen tasks must be; held-out ones too, unless all tasks are seen.
    Raises Refusal where results of a split must not be compared.
    """
    played = {result.split for name in ("none", "oracle") for result in lines.get(name, ())}
    is_finite = any(result.seen_only for results in lines.values() for result in results)
    wanted = played | {"train"} | (set() if is_finite else {"test"})
    return Certificate(tuple(_of_split(split, lines, inferring) for split in SPLITS if split in wanted))


def _of_split(split: str, lines: Mapping[str, Results], inferring: Mapping[str, Results]) -> SplitCertificate:
    of_lines, of_runs = ({name: _on(split, of) for name, of in methods.items()} for methods in (lines, inferring))
    given = {name: results for name, results in of_lines.items() if results}
    if not {"none", "oracle"} <= given.keys():
        return SplitCertificate(split, EPISODE, None, None, None, {})
    oracle, team = given.pop("oracle"), given.pop("centralised", [])
    comparison = compare("oracle", oracle, given, numpy_generator(0, "bootstrap"))
    k = min(EPISODE, oracle[0].returns.shape[-1] - 1)
    estimates = {line.label: line.estimate for line in comparison.lines}
    telling = {label: _telling(results, oracle, team) for label, results in of_runs.items() if results}
    memory = _gap(estimates, "memory", k) if "memory" in given else None
    return SplitCertificate(split, k, comparison, _gap(estimates, "none", k), memory, telling)


def _on(split: str, results: Results) -> Results:
    return [result for result in results if result.split == split]


def _gap(estimates: Mapping[str, Estimate], other: str, k: int) -> Gap:
    """From another line up to the oracle, in parts of |none|."""
    oracle, behind = estimates["oracle"], estimates[other]
    with np.errstate(divide="ignore", invalid="ignore"):  # a team without inference may earn nothing at all
        share = (oracle.value[k] - behind.value[k]) / np.abs(estimates["none"].value[k])
    return Gap(float(share), bool(behind.high[k] < oracle.low[k]))


def _telling(results: Results, oracle: Results, team: Results) -> Telling:
    accuracy = np.mean([result.probe.accuracy for result in results], axis=0)  # (n_moments, N)
    mean, chance = accuracy.mean(axis=1), results[0].probe.chance
    worst = float(accuracy[-1].min())
    reading = Telling(float(mean[-1]), worst, _final(oracle), _final(team), chance, None)
    if not reading.is_known:
        return reading
    first = int(np.argmax(mean - chance >= NEARLY * (mean[-1] - chance)))
    return reading._replace(steps=results[0].probe.steps[first])


def _final(results: Results) -> float:
    """The probe's reading at the end of trials, mean over agents and seeds."""
    return float(np.mean([result.probe.accuracy[-1] for result in results])) if results else float("nan")
