"""What the weights of a run were ever trained on: its own training tasks, and those of the runs it started from.

A run that starts from another's weights must not be judged on tasks which those were trained on (P13).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from envs.core import Refusal, TaskFamily
from mg2l_kalei.disk.durable import read_bounded
from mg2l_kalei.disk.run_folder import MAX_TASKS_SIZE, RunFolder
from mg2l_kalei.evaluation.adaptation import canonical

Ancestors = Sequence[Mapping[str, Any]]  # per run: its folder, its family's name, parameters of its training tasks


def ancestors_of(folder: RunFolder) -> Ancestors:
    """The run in ``folder``, and what it started from. Raises Refusal where its tasks.json cannot be read."""
    try:
        described = json.loads(read_bounded(folder.tasks, MAX_TASKS_SIZE))
        trained = [task["params"] for task in described["tasks"] if task["split"] == "train"]
        own = {"run": str(folder.path), "family": described["family"], "trained_on": trained}
        return [own, *described.get("started_from", ())]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refusal(f"{folder.tasks} cannot be read ({type(error).__name__}: {error})") from error


def refuse_trained_on(family: TaskFamily, ancestors: Ancestors) -> None:
    """Raise Refusal where a held-out task of ``family`` was trained on by a run that the weights come from."""
    held_out = {canonical(task.params): task.name for task in family.tasks if task.split != "train"}
    for ancestor in ancestors:
        if ancestor["family"] != family.name:
            continue
        seen = [held_out[key] for params in ancestor["trained_on"] if (key := canonical(params)) in held_out]
        if seen:
            raise Refusal(
                f"{ancestor['run']} was trained on {len(seen)} of the {len(held_out)} held-out tasks of this run "
                f"({', '.join(seen[:3])}{', ...' if len(seen) > 3 else ''}): start from a run of the same tasks, as of "
                "the same seed"
            )
