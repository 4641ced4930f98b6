"""A first short play of an environment, so that much of what is wrong with it is said before a run begins."""

from __future__ import annotations

import numpy as np

from envs.core import Task
from envs.pettingzoo.factory import Complaint, close_env, in_one_line, make_env
from envs.pettingzoo.interrupts import raise_interruption, told_apart
from envs.pettingzoo.layout import Env, Layout, layout_of, spec_of
from envs.pettingzoo.rows import Row, record_type

N_STEPS = 3


@told_apart()
def try_out(factory: str, task: Task) -> Layout:
    """The layout of a task's environment, once it has been played for a few random legal steps.

    Raises Complaint, in one line, where it cannot be made or played.
    """
    env = make_env(factory, task.params)
    try:
        layout = layout_of(env)
        _play(env, layout)
    except BaseException as error:
        raise_interruption(error)
        raise Complaint(f"{factory}, task {task.name!r}: {in_one_line(error)}") from error
    finally:
        close_env(env)
    return layout


def _play(env: Env, layout: Layout) -> None:
    spec = spec_of([layout], episode_steps=N_STEPS)
    record = np.zeros(1, record_type(spec))[0]
    row = Row(env, layout, 0, spec)
    row.restart(record)
    generator = np.random.default_rng(0)
    for _ in range(N_STEPS):
        chance = generator.random(record["legal"].shape)
        record["action"] = np.where(record["legal"], chance, -1).argmax(-1) if spec.is_discrete else 2 * chance - 1
        row.step(record)
