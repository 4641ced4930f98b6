"""Does every recipe build and train on every family, and is what cannot work refused?"""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from envs import ENVS
from mg2l_kalei.config import ConfigError, RunConfig, load, run_name
from mg2l_kalei.config.settings import rules
from mg2l_kalei.encoders import ENCODERS
from mg2l_kalei.learners import LEARNERS
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA, build, choose_device, family_of
from tests.representatives import MAIN_SHARINGS, REPRESENTATIVES
from tests.training.trainers import (
    RECIPES,
    SCHEMES_ALONE,
    SLOW,
    can_learn,
    every_recipe,
    load_words,
    make_trainer,
    tiny,
    toy_of,
)


def global_randomness() -> list[Any]:
    return [torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()]


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


def pairs() -> Iterator[Any]:
    """Every recipe with every family: the whole one with one of each kind, others with few of them."""
    few = ("mpe-simple-tag", "mpe-spread", "mujoco-cheetah-dir", "rware-tiny-2ag", "pettingzoo", "toy-turns")
    for algo in RECIPES:
        for env in ENVS:
            is_shown = env in REPRESENTATIVES if algo == "mg2l_kalei" else env in few and algo not in SLOW
            yield pytest.param(algo, env, marks=[] if is_shown else [pytest.mark.slow])


@pytest.mark.parametrize(("algo", "env"), list(pairs()))
def test_every_recipe_trains_on_every_family(algo: str, env: str) -> None:
    config = tiny(algo, env)
    if can_learn(config):
        train_two_iterations(config)
        return
    with pytest.raises(ConfigError, match=r"^learner\.kind=qmix: .*(continuous|rivals).*expected (learner=)?mappo"):
        build(config, torch.device("cpu"))


@pytest.mark.parametrize("algo", SCHEMES_ALONE)
def test_every_scheme_that_papers_compare_trains(algo: str) -> None:
    config = tiny(algo, "toy-turns")
    assert (config.kinds["encoder"], config.kinds["learner"]) == ("none", "mappo")
    train_two_iterations(config)


@every_recipe
def test_every_recipe_is_built_on_a_family_of_each_kind_with_its_own_settings(algo: str) -> None:
    for env in REPRESENTATIVES - {"pettingzoo"} | {"mujoco-humanoid-17x1"}:  # whose replays are the largest
        config = load([f"--env={env}", f"--algo={algo}"], SCHEMA, CONFIG_DIR).config
        assert not can_learn(config) or build(config, torch.device("cpu")).family.name.split(" (")[0] == env


@pytest.mark.parametrize("env", sorted(ENVS))
def test_the_centralised_reference_has_the_encoder_of_mg2l_full_but_for_who_is_told_what(env: str) -> None:
    full, centralised = (load_words(f"--env={env}", f"--algo={algo}") for algo in ("mg2l_full", "centralised"))
    told = dataclasses.replace(full.encoder, actors_see="global")
    assert dataclasses.replace(centralised, algo="", encoder=None) == dataclasses.replace(full, algo="", encoder=None)
    assert centralised.encoder == told


@pytest.mark.slow
@every_recipe
def test_every_recipe_is_built_on_every_family_with_its_own_settings(algo: str) -> None:
    for env in sorted(ENVS.keys() - {"pettingzoo"}):
        config = load([f"--env={env}", f"--algo={algo}"], SCHEMA, CONFIG_DIR).config
        assert not can_learn(config) or build(config, torch.device("cpu")).family.name.split(" (")[0] == env


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("sharing", MAIN_SHARINGS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_combination_of_kinds_trains(encoder: str, sharing: str, learner: str) -> None:
    words = (f"encoder={encoder}", f"sharing={sharing}", f"learner={learner}")
    for env in ("toy-turns", "toy-corners"):  # discrete and continuous actions
        config = tiny("mg2l_kalei", env, *words)
        if can_learn(config):
            train_two_iterations(config)


def alternatives() -> Iterator[tuple[str, str, Any]]:
    """(word that chooses the kind, setting, value) of every value that a setting with choices does not have."""
    parts = [("algo=mg2l_kalei", group) for group in SCHEMA.groups.values()]
    for axis in ("encoder", "sharing", "learner"):
        parts += [(f"{axis}={kind}", default) for kind, (_, default) in SCHEMA.axes[axis].items()]
    for words, part in parts:
        for name, rule in rules(part).items():
            values: Sequence[Any] = (True, False) if rule.scalar is bool else rule.choices or ()
            if isinstance(rule.default, tuple):  # each of the choices, and all
                values = [*((value,) for value in values), tuple(values)] if values else ()
            yield from ((words, name, value) for value in values if value != rule.default)


NEEDS = {"trains_encoder": {"time_limits": "terminal"}}  # what a setting is refused without


@pytest.mark.parametrize(("choice", "name", "value"), list(alternatives()))
def test_every_choice_of_every_setting_trains(choice: str, name: str, value: Any) -> None:
    env = "toy-corners" if can_learn(tiny("mg2l_kalei", "toy-corners", choice)) else "toy-arms"
    train_two_iterations(tiny("mg2l_kalei", env, choice, **{name: value}, **NEEDS.get(name, {})))


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_what_is_observed_is_part_of_a_runs_name_and_of_its_familys_title() -> None:
    for word, regime in (("env.agent_obsk=1", "partial-1"), ("env.observation=full", "full")):
        config = load_words("--env=mujoco-cheetah-dir", word)
        assert f"-s0-{regime}-" in run_name(config)
        assert family_of(config).name == f"mujoco-cheetah-dir (2x3, {regime})"


def test_rivals_are_no_team() -> None:
    with pytest.raises(ConfigError, match=r"^learner\.kind=qmix: agents of mpe-simple-adversary are rivals"):
        build(load_words("--algo=qmix", "--env=mpe-simple-adversary", "env.opponents=learning"), torch.device("cpu"))


def test_contexts_that_cannot_pair_up_are_refused_where_there_are_any() -> None:
    with pytest.raises(ConfigError, match=r"context\.batch=5 is odd"):
        load_words("algo=mg2l_kalei", "env=toy-turns", "context.batch=5")
    assert load_words("algo=mappo", "env=toy-turns", "context.batch=5").context.batch == 5


def test_a_window_that_forgets_most_of_a_context_is_refused_where_there_is_one() -> None:
    with pytest.raises(ConfigError, match=r"encoder\.window=32 forgets most of context\.length=50"):
        load_words("env=toy-turns", "pooling=attention_blocks", "context.length=50")
    assert load_words("env=toy-turns", "context.length=50").context.length == 50


def test_a_buffer_too_small_for_every_task_is_refused_where_all_are_drawn_from() -> None:
    words = ("algo=mg2l", "env=mpe-wind", "replay.capacity=63")
    with pytest.raises(ValueError, match=r"replay\.capacity=63 is less than a trial for each of 64"):
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


def test_learners_whose_actors_have_no_gates_refuse_them() -> None:
    message = r"^network.task_gates=true: actors of learner.kind=qmix have no gates$"
    with pytest.raises(ConfigError, match=message):
        load_words("--algo=qmix", "--env=toy-turns", "task_gates=true")


OFF_POLICY = {
    "qmix": ["rware-tiny-2ag", "mpe-spread-roles"],
    "vdn": ["rware-tiny-2ag"],
    "matd3": ["rware-tiny-2ag", "mujoco-humanoid-17x1", "mujoco-walker2d-6x1", "mujoco-cheetah-dir", "mpe-spread"],
}


@pytest.mark.parametrize("algo", [algo for algo in RECIPES if algo.endswith(tuple(OFF_POLICY))])
def test_settings_of_families_leave_off_policy_recipes_many_rollouts_to_learn_from(algo: str) -> None:
    for env in OFF_POLICY[algo.rpartition("_")[2]]:
        config = load_words(f"--algo={algo}", f"--env={env}")
        assert config.replay.capacity >= 8 * config.n_rows, env


@pytest.mark.parametrize("algo", ["mg2l_qmix", "mg2l_matd3"])
def test_off_policy_teams_learn_on_samples_of_posteriors(algo: str) -> None:
    train_two_iterations(
        tiny(algo, toy_of(algo), "encoder.sampled=true", "encoder.read_at=episode", "env.episode_steps=3")
    )
