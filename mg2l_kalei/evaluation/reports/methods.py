"""Runs put together into methods, and methods that may be compared: by family and split."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from envs.core import Refusal
from mg2l_kalei.config.settings import to_text
from mg2l_kalei.evaluation.reports.stored import StoredRun
from mg2l_kalei.evaluation.results import AdaptationResult

# In what a run may differ from its reference lines and still be compared with them.
FREE = ("algo", "encoder.", "sharing.", "context.", "network.memory", "network.inputs", "learner.horizon")

ADAPTED = re.compile(r"\+(finetune|scratch)-(\d+)$")  # ends the recipe of what ``finetune`` trained on each task


@dataclass(frozen=True, eq=False)
class Method:
    """Runs that differ in their seeds alone."""

    label: str
    line: str  # the label without ``task_steps``: what differs in these alone is one line of a figure
    role: str  # "none", "oracle", "rl2"; "" for any other
    runs: tuple[StoredRun, ...]

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.runs[0].settings

    @property
    def task_steps(self) -> int | None:
        """Environment steps of training on each task alone; None: it was trained on all of them together."""
        adapted = ADAPTED.search(str(self.settings.get("algo")))
        return int(adapted.group(2)) if adapted else None


def families_of(runs: Sequence[StoredRun]) -> dict[str, list[StoredRun]]:
    """Runs by family, without the regime that its name may hold in brackets."""
    families = defaultdict(list)
    for run in runs:
        families[run.results[0].family.split(" (")[0]].append(run)
    return dict(families)


def variants_of(runs: Sequence[StoredRun]) -> dict[str, list[StoredRun]]:
    """Runs that may be compared, by family and, where settings of its own make tasks others, by these settings too.

    Runs of other settings of their family are put together where some seed of both has the same tasks. Raises Refusal
    where anything but the family's settings forbids to compare runs.
    """
    named: dict[str, list[StoredRun]] = {}
    for of_family in families_of(runs).values():
        variants: list[list[StoredRun]] = []
        for alike in _by_settings_of_env(of_family):
            refuse_unlike(alike)
            fitting = next((variant for variant in variants if _have_tasks_in_common(variant, alike)), None)
            if fitting is None:
                variants.append(alike)
            else:
                fitting.extend(alike)
        if unlike := unlikeness(of_family, MADE_ALIKE):
            raise Refusal(unlike)
        told_by = _told_by(variants)
        for variant in variants:
            settings = _of_env(variant[0])
            told = [f"{key}={to_text(settings.get(key))}" for key in told_by]
            together = named.setdefault(" ".join([variant[0].results[0].family, *told]), [])
            together.extend(variant)
            refuse_unlike(together)
    return named


def _by_settings_of_env(runs: Sequence[StoredRun]) -> list[list[StoredRun]]:
    groups: list[list[StoredRun]] = []
    for run in runs:
        group = next((group for group in groups if _of_env(group[0]) == _of_env(run)), None)
        if group is None:
            groups.append([run])
        else:
            group.append(run)
    return groups


def _of_env(run: StoredRun) -> dict[str, Any]:
    """What an earlier release did not store, and null, are the same."""
    return {key: value for key, value in run.settings.items() if key.startswith("env.") and value is not None}


def _have_tasks_in_common(variant: Sequence[StoredRun], others: Sequence[StoredRun]) -> bool:
    """Whether nothing forbids to compare them, and some seed of both has the same tasks."""
    own, other = ({(r.split, r.seed, r.fingerprint) for run in runs for r in run.results} for runs in (variant, others))
    return bool(own & other) and unlikeness([*variant, *others]) is None


def _told_by(variants: Sequence[Sequence[StoredRun]]) -> list[str]:
    """Settings of the family that tell variants apart: each has one value in all runs of a variant."""
    of_variants = [[_of_env(run) for run in variant] for variant in variants]
    keys = dict.fromkeys(key for variant in of_variants for settings in variant for key in settings)
    differing = [key for key in keys if any(of[0].get(key) != of_variants[0][0].get(key) for of in of_variants)]
    return [key for key in differing if all(s.get(key) == of[0].get(key) for of in of_variants for s in of)]


def methods_of(runs: Sequence[StoredRun]) -> tuple[Method, ...]:
    """Methods of one family: reference lines are called by their role, others by their recipe.

    Where another has that name, it is also called by the settings that differ. Raises Refusal on a seed given twice.
    """
    groups: list[list[StoredRun]] = []
    for run in sorted(runs, key=lambda run: _role(run.settings) == ""):
        kin = next((group for group in groups if group[0].settings == run.settings), None)
        if kin is None:
            groups.append([run])
            continue
        twin = next((other for other in kin if other.seed == run.seed), None)
        if twin is not None:
            raise Refusal(f"{run.path}: seed {run.seed} is given twice, also by {twin.path}")
        kin.append(run)
    firsts: dict[str, Mapping[str, Any]] = {}
    methods: dict[str, Method] = {}
    for group in groups:
        role, recipe = _role(group[0].settings), str(group[0].settings.get("algo"))
        kind = ADAPTED.sub(r"+\1", recipe)
        settings = {**group[0].settings, "algo": kind}
        firsts.setdefault(kind, settings)
        differing = _differing(firsts.setdefault(role or kind, settings), settings)
        label, line = (" ".join([role or name, *differing]) for name in (recipe, kind))
        while label in methods:  # which differs from the first in the same kind of an axis
            more = _differing(methods[label].settings, group[0].settings)
            label, line = (" ".join([name, *more]) for name in (label, line))
        methods[label] = Method(label, line, role, tuple(sorted(group, key=lambda run: run.seed)))
    return tuple(methods.values())


def _role(settings: Mapping[str, Any]) -> str:
    if ADAPTED.search(str(settings.get("algo"))):
        return ""
    encoder, remembers = settings.get("encoder.kind"), settings.get("network.memory") == "trial"
    if settings.get("sharing.kind") != "full" or encoder not in ("none", "oracle"):
        return ""
    if remembers:
        return "rl2" if encoder == "none" else ""
    return str(encoder)


def _differing(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Settings as one would write them; of an axis of another kind the kind alone."""
    keys = [key for key in {**first, **other} if first.get(key) != other.get(key)]
    kinds = {key.split(".")[0] for key in keys if key.endswith(".kind")}
    return [f"{k}={to_text(other.get(k))}" for k in keys if k.endswith(".kind") or k.split(".")[0] not in kinds]


def reference_of(method: Method, role: str, methods: Sequence[Method]) -> Method | None:
    """The method with that role whose other settings are most like this one's; None: there is none."""

    def distance(other: Method) -> int:
        keys = {*method.settings, *other.settings}
        return sum(not key.startswith(FREE) and method.settings.get(key) != other.settings.get(key) for key in keys)

    return min((other for other in methods if other.role == role), key=distance, default=None)


class Trait(NamedTuple):
    """What runs must have in common to be compared."""

    name: str
    of: Callable[[StoredRun, AdaptationResult], object]


MADE_ALIKE = (  # whatever the family's settings
    Trait("episodes per trial", lambda run, result: result.returns.shape[-1]),
    Trait("actions", lambda run, result: result.actions),
)
TRAITS = (
    Trait("family and regime", lambda run, result: result.family),
    Trait("version of family and simulator", lambda run, result: run.made_by or None),
    Trait("episode length [steps]", lambda run, result: result.episode_steps),
    *MADE_ALIKE,
    Trait("number of tasks", lambda run, result: len(result.tasks)),
    Trait("tasks hash", lambda run, result: result.fingerprint),
)


def refuse_unlike(runs: Sequence[StoredRun]) -> None:
    """Raise Refusal, naming what differs, where runs of one family must not be compared."""
    if unlike := unlikeness(runs):
        raise Refusal(unlike)


def unlikeness(runs: Sequence[StoredRun], traits: Sequence[Trait] = TRAITS) -> str | None:
    """In what runs of one family differ that must not be compared; None: in nothing.

    Seeds may have other tasks than each other: all runs of the same seed have to have the same.
    """
    first_of: dict[tuple[str, ...], tuple[StoredRun, object]] = {}
    for trait in traits:
        for run in runs:
            for result in run.results:
                value = trait.of(run, result)
                if value is None:
                    continue
                scope = (str(result.seed),) if trait.name == "tasks hash" else ()
                other, expected = first_of.setdefault((trait.name, result.split, *scope), (run, value))
                if value != expected:
                    pair = f"{run.path} has {value}, {other.path} has {expected}"
                    return f"{trait.name} differs, so these runs must not be compared: {pair}"
    return None
