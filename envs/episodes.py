"""Families by name and keywords, and their rows as other libraries play them: episode after episode."""

from __future__ import annotations

import difflib
import zlib
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs import ENVS, make_family
from envs.core import Observation, Refusal, StepResult, TaskFamily, is_in_range
from envs.streams import Drawn, RowStreams

TASK_DRAW = zlib.crc32(b"task_draw")  # the stream that a training run draws its tasks from, under its seed


def chosen_family(name: str, task_seed: int, settings: dict[str, Any]) -> TaskFamily:
    """The family ``name`` with these settings, others at the family's defaults.

    Its tasks are those of a training run with ``seed=task_seed``.

    Raises KeyError for a name, Refusal for a setting that there is not, or a value out of its range.
    """
    generator = np.random.default_rng(np.random.SeedSequence(task_seed, spawn_key=(TASK_DRAW,)))
    if name not in ENVS:
        return make_family(name, None, generator)  # which says what there is
    default = ENVS[name][1]
    rules = {entry.name: entry.metadata for entry in fields(default)}
    read = {key: _plain(value) for key, value in settings.items()}
    for key, value in tuple(read.items()):
        if key not in rules:
            nearest = difflib.get_close_matches(key, rules, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else f"; it has: {', '.join(rules)}"
            raise Refusal(f"{name} has no setting {key}{hint}")
        rule = rules[key]
        if not _is_like(value, getattr(default, key)):
            raise Refusal(f"{key}={value!r}: expected a value like the default, {getattr(default, key)!r}")
        limits = {limit: rule[limit] for limit in ("low", "above", "high", "choices")}
        items = value if isinstance(value, (list, tuple)) else [value]
        if not all(item is None or is_in_range(item, **limits) for item in items):
            stated = ", ".join(f"{limit} {bound}" for limit, bound in limits.items() if bound is not None)
            raise Refusal(f"{key}={value!r}: {rule['meaning']}: {stated}")
        read[key] = tuple(items) if isinstance(value, list) else value
        if rule["from_file"]:
            read[key] = rule["from_file"](value)
    return make_family(name, replace(default, **read), generator)


def _plain(value: Any) -> Any:
    """A number of NumPy's, such as its random integers, as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value is of the default's type; of a list, all of it. A default of None, or [], tells nothing."""
    if default is None or default == ():
        return True
    if isinstance(default, tuple):
        return isinstance(value, (list, tuple)) and all(_is_like(item, default[0]) for item in value)
    kinds = (int, float) if isinstance(default, float) else type(default)
    return isinstance(value, kinds) and isinstance(value, bool) == isinstance(default, bool)


class Episodes:
    """B rows of a family, each of which plays one task for an episode at a time, on the CPU.

    ``task``: the number of the task of all episodes; None: each episode has one drawn from ``split``.
    A row's tasks and starts depend on the seed and on how often that row has begun, not on when others did.
    """

    tasks: Tensor  # (B,) int64, what each row plays

    def __init__(self, family: TaskFamily, n_rows: int, task: int | None, split: str) -> None:
        task = _plain(task)
        is_number = isinstance(task, int) and not isinstance(task, bool)
        if task is not None and not (is_number and 0 <= task < len(family.tasks)):
            raise Refusal(f"task={task!r}: {family.name} has tasks 0 to {len(family.tasks) - 1}")
        if n_rows < 1:
            raise Refusal(f"num_envs={n_rows}: expected at least 1")
        self.family, self.n_rows = family, n_rows
        self._choice = family.task_ids(split) if task is None else torch.tensor([task])
        self._features = family.features()
        self._generator, self._chance = torch.Generator(), torch.Generator()
        self._streams = RowStreams(self._chance, n_rows)
        self._batch = family.make(n_rows, torch.device("cpu"), self._generator)
        self._is_seeded = False  # until it is played, so that copies of one that was not differ

    def has_masks(self) -> bool:
        """Whether some actions may be illegal; it is as unplayed after that."""
        legal = self.start().legal
        self._is_seeded = False
        return legal is not None

    def seed(self, seed: int | None) -> None:
        """Decide all that follows the next common start; None: by chance."""
        of_batch, of_tasks = np.random.SeedSequence(seed).generate_state(2, np.uint64).tolist()
        self._generator.manual_seed(of_batch)
        self._chance.manual_seed(of_tasks)
        self._is_seeded = True

    def start(self, where: Tensor | None = None, tasks: Tensor | None = None) -> Observation:
        """Begin episodes in the rows where ``where`` (B,) bool is True; None: in all.

        ``tasks`` (B,): what they play, instead of what would be drawn. Raises Refusal for numbers that no task has.
        """
        if tasks is not None and not ((tasks >= 0) & (tasks < len(self.family.tasks))).all():
            raise Refusal(f"task={tasks.tolist()}: {self.family.name} has tasks 0 to {len(self.family.tasks) - 1}")
        if not self._is_seeded:
            self.seed(None)
        (drawn,) = self._streams.restart(self._draw, where)
        begun = drawn if tasks is None else tasks
        self.tasks = begun if where is None else torch.where(where, begun, self.tasks)
        return self._batch.reset(self.tasks.clone(), where)

    def step(self, action: Tensor) -> StepResult:
        """As ``EnvBatch.step``: no row has been restarted."""
        return self._batch.step(action)

    def hidden(self) -> dict[str, Any]:
        """What an oracle is told of each row: ``task`` (B,), its number, and ``task_features`` (B, n_features)."""
        return {"task": self.tasks.numpy().copy(), "task_features": self._features[self.tasks].numpy()}

    def _draw(self, generator: torch.Generator) -> Drawn:
        return (self._choice[torch.randint(len(self._choice), (self.n_rows,), generator=generator)],)
