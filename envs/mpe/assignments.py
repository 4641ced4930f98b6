"""Hidden tasks that are assignments: each of n (agents, or groups of them) belongs to a landmark of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from envs.core import Refusal, Task, refuse_many_tasks

MAX_DRAWS = 10_000


def refuse_assignments(n: int, n_train: int, n_test: int) -> None:
    """Raises ValueError where there are not so many assignments, or too few to train on to show everything."""
    asked, n_all = f"n_train={n_train}, n_test={n_test}", math.factorial(min(n, 20))
    if n_train + n_test > n_all:
        raise Refusal(f"{asked} are more tasks than the {n_all} ways to give {n} landmarks to {n} owners")
    if n_train < n:
        raise Refusal(f"n_train={n_train} is less than {n}, so that no landmark could be everybody's in some task")
    refuse_many_tasks(asked, n_train + n_test, n * n)


def draw_assignments(n: int, n_train: int, n_test: int, generator: np.random.Generator) -> tuple[Task, ...]:
    """Different permutations of n landmarks, those to train on first; features are the permutation's matrix.

    In training, everybody owns every landmark in some task: what is held out is how these are put together.
    """
    for _ in range(MAX_DRAWS):
        drawn: dict[tuple[int, ...], None] = {}  # a set that keeps its order
        while len(drawn) < n_train + n_test:
            drawn[tuple(generator.permutation(n).tolist())] = None
        owned = list(drawn)
        if all(len({landmarks[i] for landmarks in owned[:n_train]}) == n for i in range(n)):
            return tuple(_task(landmarks, k >= n_train) for k, landmarks in enumerate(owned))
    raise Refusal(
        f"n_train={n_train} of {n} landmarks: no draw in {MAX_DRAWS} gives everybody each of them; more would"
    )


def _task(landmarks: Sequence[int], is_held_out: bool) -> Task:
    matrix = tuple(float(landmark == j) for landmark in landmarks for j in range(len(landmarks)))
    name = "owns-" + "-".join(map(str, landmarks))
    return Task(name, {"landmarks": list(landmarks)}, matrix, "test" if is_held_out else "train")
