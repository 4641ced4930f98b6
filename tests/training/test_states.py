"""Does a seed make one run, and is all that changes in training saved?"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mg2l_kalei.buffers.trials import TrialReplay
from mg2l_kalei.config import RunConfig
from mg2l_kalei.disk.shards import Shard
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.types import State
from tests.training.trainers import every_recipe, make_trainer, tiny, toy_of, without_time


@every_recipe
def test_a_seed_makes_one_run_and_another_seed_another(algo: str) -> None:
    runs = []
    for seed in (0, 0, 1):
        trainer = make_trainer(tiny(algo, toy_of(algo), f"seed={seed}"))
        runs.append(([without_time(trainer.iterate()) for _ in range(2)], dict(leaves(trainer))))
    assert runs[0][0] == runs[1][0] and differing(runs[0][1], runs[1][1]) == set()
    assert runs[0][0] != runs[2][0]


# Parts of a trainer that change and are not saved, since each iteration begins with new trials, timed anew.
SIMULATORS = ("phases.collect.env.env.now", "phases.explore.env.env.now")
TEAM = ("belief", "latent", "memory", "episode_start", "_")
NOT_SAVED = (*SIMULATORS, *(f"shop.team.{name}" for name in TEAM), "stopwatch.seconds")


def leaves(root: Any) -> Iterator[tuple[str, Any]]:
    """Every tensor, number and text that hangs on an object, by its path; generators and optimisers by their states."""
    seen: dict[int, Any] = {}  # by id; kept alive, so that no id comes twice

    def walk(path: str, value: Any) -> Iterator[tuple[str, Any]]:
        if value is None or isinstance(value, (bool, int, float, str, Path)):
            yield path, value
            return
        if id(value) in seen:
            return
        seen[id(value)] = value
        if isinstance(value, Tensor):
            yield path, value.detach().clone()
        elif isinstance(value, torch.Generator):
            yield path, value.get_state()
        elif isinstance(value, torch.optim.Optimizer):
            yield from inner(path, value.state_dict())
        elif isinstance(value, TrialReplay):  # slots that were never filled hold anything
            others = {name: part for name, part in vars(value).items() if name not in ("_trials", "task")}
            yield from inner(path, {**others, "trials": value.since(0)})
        else:
            yield from inner(path, value)

    def inner(path: str, value: Any) -> Iterator[tuple[str, Any]]:
        items: dict[Any, Any] = {}
        if isinstance(value, dict):
            items = value
        elif isinstance(value, (list, tuple)):
            fields = getattr(value, "_fields", range(len(value)))
            items = dict(zip(fields, value, strict=True))
        elif type(value).__module__.split(".")[0] in ("mg2l_kalei", "envs", "torch"):
            items = getattr(value, "__dict__", {})
        for name, item in items.items():
            yield from walk(f"{path}.{name}" if path else str(name), item)

    yield from inner("", root)


def same(first: Any, second: Any) -> bool:
    return torch.equal(first, second) if isinstance(first, Tensor) and isinstance(second, Tensor) else first == second


def differing(first: dict[str, Any], second: dict[str, Any]) -> set[str]:
    """Paths whose values differ, or that only one of them has, of what a trainer is to keep."""
    shared = first.keys() & second.keys()
    paths = {path for path in shared if not same(first[path], second[path])} | (first.keys() ^ second.keys())
    return {path for path in paths if not path.startswith(NOT_SAVED)}


def saved_by(trainer: MetaTrainer) -> tuple[dict[str, State], list[Shard]]:
    """Copies of what a checkpoint holds of it."""
    shard = trainer.trials_since(0)
    return copy.deepcopy(trainer.state_dict()), [] if shard is None else [copy.deepcopy(shard)]


def trained(config: RunConfig) -> MetaTrainer:
    trainer = make_trainer(config)
    for _ in range(3):
        trainer.iterate()
    trainer.note_evaluation({f"evaluation/train/return_k{config.eval_episodes - 1}": 1.5})
    return trainer


@every_recipe
def test_everything_that_changes_is_saved_or_on_the_list_of_what_is_not(algo: str) -> None:
    config = tiny(algo, "toy-turns")
    saved, restored, fresh = trained(config), make_trainer(config), make_trainer(config)
    restored.load_state_dict(*saved_by(saved))
    assert differing(dict(leaves(saved)), dict(leaves(restored))) == set()
    changed = differing(dict(leaves(saved)), dict(leaves(fresh)))
    kinds = ["generators.env", "generators.learner", "system.learner.optimisers.actor", "best_return"]
    kinds += ["replay.trials", "shop.inference.optimiser"] if saved.system.encoder.learns else []
    for kind in kinds:  # the walk sees them
        assert any(path.startswith(kind) for path in changed), kind


@every_recipe
def test_a_restored_trainer_goes_on_as_the_saved_one_bit_for_bit(algo: str) -> None:
    config = tiny(algo, "toy-turns")
    saved, restored = trained(config), make_trainer(config)
    restored.load_state_dict(*saved_by(saved))
    for _ in range(2):
        assert without_time(saved.iterate()) == without_time(restored.iterate())
    assert differing(dict(leaves(saved)), dict(leaves(restored))) == set()


def test_no_part_of_the_state_is_superfluous() -> None:
    config = tiny("mg2l_kalei", "toy-turns")
    saved, initial = trained(config), make_trainer(config).state_dict()
    expected = dict(leaves(saved))
    parts = [(half, part) for half in initial for part in initial[half] if part != "n_processes"]  # a guard, as below
    assert len(parts) == 8
    for half, part in parts:
        state, shards = saved_by(saved)
        state[half][part] = initial[half][part]
        restored = make_trainer(config)
        restored.load_state_dict(state, shards)
        assert differing(expected, dict(leaves(restored))), part


def test_as_many_processes_go_on_as_the_run_was_begun_by() -> None:
    config = tiny("mg2l_kalei", "toy-turns")
    state, shards = saved_by(trained(config))
    state["training"]["n_processes"] = 2
    with pytest.raises(ValueError, match="begun by 2 processes, not 1"):
        make_trainer(config).load_state_dict(state, shards)


def test_trials_are_saved_and_not_superfluous() -> None:
    config = tiny("mg2l_kalei", "toy-turns")
    saved, restored = trained(config), make_trainer(config)
    restored.load_state_dict(saved_by(saved)[0], [])
    assert any(path.startswith("replay.") for path in differing(dict(leaves(saved)), dict(leaves(restored))))
