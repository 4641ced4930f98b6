"""The JSON that marl-eval reads: environment -> task -> algorithm -> run -> steps and absolute metrics.

Source: Gorsane et al., "Towards a standardised performance evaluation protocol for cooperative MARL" (NeurIPS 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mg2l_kalei.evaluation.reports.estimates import Section
from mg2l_kalei.evaluation.reports.stored import StoredRun
from mg2l_kalei.evaluation.results import AdaptationResult

Json = dict[str, Any]


def to_marl_eval(sections: Sequence[Section]) -> Json:
    """A family is an environment, its splits are the tasks; metrics are the returns of each k.

    Steps are the evaluations during training, a mean return each; absolute metrics hold every trial of the last one.
    """
    content: Json = {}
    for section in sections:
        methods: Json = {}
        for entry in section.entries:
            runs = {result.seed: result for result in entry.results}
            methods[entry.label] = {
                f"seed_{run.seed}": _run(run, runs[run.seed]) for run in entry.method.runs if run.seed in runs
            }
        content.setdefault(section.family, {})[section.split] = methods
    return content


def _run(run: StoredRun, result: AdaptationResult) -> Json:
    names = [f"return_k{k}" for k in range(result.returns.shape[-1])]
    returns = {name: result.returns[..., k].ravel().tolist() for k, name in enumerate(names)}
    steps = []
    for row in run.metrics:
        logged = {name: row.get(f"evaluation/{result.split}/{name}") for name in names}
        if None not in logged.values() and row["env_steps"] < result.env_steps:
            steps.append({"step_count": row["env_steps"], **{name: [value] for name, value in logged.items()}})
    steps.append({"step_count": result.env_steps, **returns})
    return {**{f"step_{place}": step for place, step in enumerate(steps)}, "absolute_metrics": returns}
