"""Does every recipe build and train on every family, is what cannot work refused, and is all that changes saved?"""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from envs import ENVS
from mg2l_kalei.buffers.contexts import ContextConfig
from mg2l_kalei.config import ConfigError, RunConfig, load, run_name
from mg2l_kalei.config.settings import rules
from mg2l_kalei.encoders import ENCODERS
from mg2l_kalei.learners import LEARNERS
from mg2l_kalei.sharing import SHARINGS
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA, build, choose_device, family_of
from mg2l_kalei.types import Metrics

RECIPES = sorted(path.stem for path in (CONFIG_DIR / "algo").glob("*.yaml"))
every_recipe = pytest.mark.parametrize("algo", RECIPES)

# Settings that make any kind small and quick, where it has them.
TINY: dict[str, Any] = {
    "hidden": (8, 8),
    "latent_dim": 4,
    "n_heads": 2,
    "window": 4,
    "n_epochs": 1,
    "n_minibatches": 2,
    "episode_steps": 4,
    "factory": "tests.envs.pettingzoo_envs:walk",
    "reset_interval": 20,
    "capacity": 120,  # a trial of every training task of any family
    "batch": 4,
    "length": 4,
    "n_updates": 1,
    "n_early_updates": 1,
    "n_early_iterations": 1,
    "explore_interval": 2,
}
AXES = ("env", "encoder", "sharing", "learner", "context")


def load_words(*words: str) -> RunConfig:
    return load(words, SCHEMA, CONFIG_DIR).config


def tiny(algo: str = "mg2l_kalei", env: str = "toy-corners", *words: str, **settings: Any) -> RunConfig:
    """A recipe's config made small; ``settings`` are those of any kind that has them."""
    config = load_words(f"--algo={algo}", f"--env={env}", "n_rows=4", "trial_steps=6", "device=cpu", *words)

    def shrunk(part: Any) -> Any:
        has = {field.name for field in dataclasses.fields(part)}
        return dataclasses.replace(part, **{name: value for name, value in (TINY | settings).items() if name in has})

    return dataclasses.replace(config, **{axis: shrunk(getattr(config, axis)) for axis in AXES})


def make_trainer(config: RunConfig) -> MetaTrainer:
    return MetaTrainer(build(config, torch.device("cpu")), Path("unused"))


def global_randomness() -> list[Any]:
    return [torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()]


def without_time(metrics: Metrics) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if not name.startswith("time/")}


def train_two_iterations(config: RunConfig) -> None:
    """Train, and see that numbers are finite, that everyone learns, and that no global generator was touched."""
    before = global_randomness()
    trainer = make_trainer(config)
    system = trainer.system
    at_first = copy.deepcopy([system.learner.actor.state_dict(), system.encoder.state_dict()])
    for _ in range(2):
        metrics = trainer.iterate()
        assert all(np.isfinite(float(value)) for value in metrics.values()), metrics
    assert trainer.iteration == 2 and trainer.env_steps >= 2 * system.steps_per_iteration
    now = [system.learner.actor.state_dict(), system.encoder.state_dict()]
    changed = [any(not torch.equal(old[k], new[k]) for k in old) for old, new in zip(at_first, now, strict=True)]
    assert changed == [True, system.encoder.learns]
    assert global_randomness() == before


@pytest.mark.parametrize("env", ENVS)
@every_recipe
def test_every_recipe_trains_on_every_family(algo: str, env: str) -> None:
    train_two_iterations(tiny(algo, env))


@every_recipe
def test_every_recipe_is_built_on_every_family_with_its_own_settings(algo: str) -> None:
    for env in ENVS.keys() - {"pettingzoo"}:
        config = load([f"--env={env}", f"--algo={algo}"], SCHEMA, CONFIG_DIR).config
        assert build(config, torch.device("cpu")).family.name.split(" (")[0] == env


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_combination_of_kinds_trains(encoder: str, sharing: str, learner: str) -> None:
    words = (f"encoder={encoder}", f"sharing={sharing}", f"learner={learner}")
    for env in ("toy-turns", "toy-corners"):  # discrete and continuous actions
        train_two_iterations(tiny("mg2l_kalei", env, *words))


def alternatives() -> Iterator[tuple[str, str, Any]]:
    """(word that chooses the kind, setting, value) of every value that a setting with choices does not have."""
    parts = {"algo=mg2l_kalei": ContextConfig()}
    for axis in ("encoder", "sharing", "learner"):
        parts |= {f"{axis}={kind}": default for kind, (_, default) in SCHEMA.axes[axis].items()}
    for words, part in parts.items():
        for name, rule in rules(part).items():
            values = (True, False) if rule.scalar is bool else rule.choices or ()
            yield from ((words, name, value) for value in values if value != rule.default)


@pytest.mark.parametrize(("choice", "name", "value"), list(alternatives()))
def test_every_choice_of_every_setting_trains(choice: str, name: str, value: Any) -> None:
    train_two_iterations(tiny("mg2l_kalei", "toy-corners", choice, **{name: value}))


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_what_is_observed_is_part_of_a_runs_name_and_of_its_familys_title() -> None:
    for word, regime in (("env.agent_obsk=1", "partial-1"), ("env.observation=full", "full")):
        config = load_words("--env=mujoco-cheetah-dir", word)
        assert f"-s0-{regime}-" in run_name(config)
        assert family_of(config).name == f"mujoco-cheetah-dir (2x3, {regime})"


def test_contexts_that_cannot_pair_up_are_refused_where_there_are_any() -> None:
    with pytest.raises(ConfigError, match=r"context\.batch=5 is odd"):
        load_words("algo=mg2l_kalei", "env=toy-turns", "context.batch=5")
    assert load_words("algo=mappo", "env=toy-turns", "context.batch=5").context.batch == 5


def test_a_window_that_forgets_most_of_a_context_is_refused_where_there_is_one() -> None:
    with pytest.raises(ConfigError, match=r"encoder\.window=32 forgets most of context\.length=50"):
        load_words("env=toy-turns", "pooling=attention_blocks", "context.length=50")
    assert load_words("env=toy-turns", "context.length=50").context.length == 50


def test_a_buffer_too_small_for_every_task_is_refused_where_all_are_drawn_from() -> None:
    words = ("algo=mg2l", "env=mpe-wind", "context.capacity=63")
    with pytest.raises(ValueError, match=r"context\.capacity=63 is less than a trial for each of 64"):
        build(load_words(*words), torch.device("cpu"))
    build(load_words(*words, "context.source=online"), torch.device("cpu"))


@pytest.mark.parametrize(
    ("word", "problem"),
    [("env=mpe-spred", "mpe-spread"), ("sharing=kaleidoskope", "kaleidoscope"), ("learner=mapo", "mappo")],
)
def test_kinds_that_are_not_there_are_refused_with_the_nearest(word: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_words("env=toy-turns" if not word.startswith("env") else "algo=mappo", word)


@pytest.mark.parametrize(
    ("words", "n_gpus", "device", "warns"),
    [
        ((), 0, "cpu", False),
        ((), 2, "cuda", False),
        (("device=cpu",), 2, "cpu", False),
        (("gpu_id=1",), 2, "cuda:1", False),
        (("gpu_id=2",), 2, "cpu", True),
        (("gpu_id=0",), 0, "cpu", True),
        (("device=cuda",), 0, "cpu", True),
        (("device=cuda:1",), 1, "cpu", True),
    ],
)
def test_a_gpu_that_is_not_there_is_replaced_by_the_cpu_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], n_gpus: int, device: str, warns: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
    chosen, warning = choose_device(load_words("env=toy-turns", *words))
    assert str(chosen) == device
    assert (warning is not None) == warns
    if warning:
        assert f"{n_gpus} GPUs found" in warning and "CPU" in warning


# --- seeds and states -------------------------------------------------------------------------------------------------


@every_recipe
def test_a_seed_makes_one_run_and_another_seed_another(algo: str) -> None:
    runs = []
    for seed in (0, 0, 1):
        trainer = make_trainer(tiny(algo, "toy-corners", f"seed={seed}"))
        runs.append(([without_time(trainer.iterate()) for _ in range(2)], dict(leaves(trainer))))
    assert runs[0][0] == runs[1][0] and differing(runs[0][1], runs[1][1]) == set()
    assert runs[0][0] != runs[2][0]


# Parts of a trainer that change and are not saved, since each iteration begins with new trials, timed anew.
SIMULATORS = ("env.env.now", "exploration_env.env.now")
NOT_SAVED = (*SIMULATORS, "team.belief", "team.latent", "team.recurrent", "team._", "stopwatch.seconds")


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
    restored.load_state_dict(copy.deepcopy(saved.state_dict()))
    assert differing(dict(leaves(saved)), dict(leaves(restored))) == set()
    changed = differing(dict(leaves(saved)), dict(leaves(fresh)))
    kinds = ["generators.env", "generators.learner", "system.learner.actor_optimiser", "best_return"]
    kinds += ["inference.buffer", "inference.optimiser"] if saved.system.encoder.learns else []
    for kind in kinds:  # the walk sees them
        assert any(path.startswith(kind) for path in changed), kind


@every_recipe
def test_a_restored_trainer_goes_on_as_the_saved_one_bit_for_bit(algo: str) -> None:
    config = tiny(algo, "toy-turns")
    saved, restored = trained(config), make_trainer(config)
    restored.load_state_dict(copy.deepcopy(saved.state_dict()))
    for _ in range(2):
        assert without_time(saved.iterate()) == without_time(restored.iterate())
    assert differing(dict(leaves(saved)), dict(leaves(restored))) == set()


def test_no_part_of_the_state_is_superfluous() -> None:
    config = tiny("mg2l_kalei", "toy-turns")
    saved, initial = trained(config), make_trainer(config).state_dict()
    expected = dict(leaves(saved))
    for part in initial:
        restored = make_trainer(config)
        restored.load_state_dict(copy.deepcopy({**saved.state_dict(), part: initial[part]}))
        assert differing(expected, dict(leaves(restored))), part
