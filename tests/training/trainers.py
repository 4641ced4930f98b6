"""Recipes made small, and trainers of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from mg2l_kalei.config import RunConfig, load
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA, build, family_of, problems_of_learner
from mg2l_kalei.types import Metrics

RECIPES = sorted(path.stem for path in (CONFIG_DIR / "algo").glob("*.yaml"))
# These are ``mappo`` with another sharing scheme, and schemes are tested by their registry: a glance at each is enough.
SCHEMES_ALONE = ["fups", "fups_id", "hypernet", "kaleidoscope", "multih", "nops", "seps", "snp"]
# All that they do, ``mg2l_kalei_qmix`` does too, but for the sum, or ``mg2l_kalei_matd3``, but for turns, or ``marie``,
# but for its autoencoder, or ``mg2l``, but for the code's settings.
PARTS_OF_ANOTHER = ["kaleidoscope_matd3", "marie_published", "matd3", "mg2l_matd3", "mg2l_qmix", "mg2l_released"]
PARTS_OF_ANOTHER += ["kaleidoscope_qmix", "qmix", "vdn"]
# And of these another encoder's recipe does most: ``varibad``, and ``mg2l_full``.
OTHER_ENCODERS = ["centralised", "mate"]
SLOW = {*SCHEMES_ALONE, *PARTS_OF_ANOTHER, *OTHER_ENCODERS}
OF_RECIPES = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in RECIPES]
every_recipe = pytest.mark.parametrize("algo", OF_RECIPES)

# Settings that make any kind small and quick, where it has them.
TINY: dict[str, Any] = {
    "hidden": (8, 8),
    "latent_dim": 4,
    "n_heads": 2,
    "window": 6,
    "n_epochs": 1,
    "n_minibatches": 2,
    "episode_steps": 4,
    "factory": "tests.envs.pettingzoo_envs:walk",
    "reset_interval": 20,
    "group_updates": 5,
    "capacity": 120,  # a trial of every training task of any family
    "batch": 4,
    "length": 6,
    "n_updates": 1,
    "n_early_updates": 1,
    "n_early_iterations": 1,
    "explore_interval": 2,
    "mixer_width": 4,
    "hypernet_width": 4,
    "updates_per_episode": 0.25,
    "target_update": 2.0,
    "warmup_steps": 30,
    "critic_reset_interval": 20,
    "first_trials": 4,
    "imagined_rollouts": 2,
    "imagined_rows": 4,
    "imagined_steps": 3,
    "score_interval": 1,
    "width": 8,
    "model_batch": 4,
    "pool": 4,
    "tokenizer_updates": 2,
    "n_layers": 1,
}
PARTS = ("env", "encoder", "sharing", "learner", "world_model", "network", "context", "replay")


def load_words(*words: str) -> RunConfig:
    return load(words, SCHEMA, CONFIG_DIR).config


def tiny(algo: str = "mg2l_kalei", env: str = "toy-corners", *words: str, **settings: Any) -> RunConfig:
    """A recipe's config made small; ``settings`` are those of any kind that has them."""
    config = load_words(f"--algo={algo}", f"--env={env}", "n_rows=4", "trial_steps=6", "device=cpu", *words)

    def shrunk(part: Any) -> Any:
        has = {field.name for field in dataclasses.fields(part)}
        return dataclasses.replace(part, **{name: value for name, value in (TINY | settings).items() if name in has})

    return dataclasses.replace(config, **{axis: shrunk(getattr(config, axis)) for axis in PARTS})


def can_learn(config: RunConfig) -> bool:
    """Whether the run's learner can learn in its family."""
    return not list(problems_of_learner(config, family_of(config)))


def toy_of(algo: str) -> str:
    """A toy whose hidden task decides everything, with actions that the recipe's learner takes."""
    return "toy-corners" if can_learn(tiny(algo, "toy-corners")) else "toy-arms"


def make_trainer(config: RunConfig) -> MetaTrainer:
    return MetaTrainer(build(config, torch.device("cpu")), Path("unused"))


def without_time(metrics: Metrics) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if not name.startswith("time/")}
