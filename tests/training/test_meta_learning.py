"""Does inferring the task beat every policy that does not infer it, where the hidden task decides everything?"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from envs.toy import Corners
from mg2l_kalei.acting.collector import Team, collect
from mg2l_kalei.config import load
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA, build
from tests.small_systems import generator

LEARNER = ("network.hidden=[32,32]", "learner.actor_lr=2e-3", "learner.critic_lr=2e-3")
ENCODER = ("encoder.hidden=[32,32]", "context.n_updates=12", "context.n_early_iterations=0")


def learnt_returns(algo: str, n_iters: int, *words: str) -> tuple[float, float, float]:
    """Returns of the first and of the second episode of a trial, and the bound on policies that ignore the task."""
    fixed = ("env=toy-corners", "n_rows=32", "trial_steps=40", "device=cpu")
    config = load([f"algo={algo}", f"n_iters={n_iters}", *fixed, *LEARNER, *words], SCHEMA, CONFIG_DIR).config
    system = build(config, torch.device("cpu"))
    assert isinstance(system.family, Corners)
    trainer = MetaTrainer(system, Path("unused"))
    for _ in range(n_iters):
        trainer.iterate()
    env = system.family.make(64, torch.device("cpu"), generator())
    team = Team(system.learner, system.encoder, generator(1))
    reward = collect(env, team, torch.arange(64) % 4, 40, explore=None).steps.reward.mean(-1)  # (T, B)
    return float(reward[:20].sum(0).mean()), float(reward[20:].sum(0).mean()), system.family.uninformed_return


def test_a_team_that_is_told_the_task_beats_the_bound_at_once() -> None:
    first, second, uninformed = learnt_returns("oracle", 10)
    assert min(first, second) > 0.5 * uninformed


def test_a_team_that_does_not_infer_the_task_stays_below_the_bound() -> None:
    first, second, uninformed = learnt_returns("mappo", 5)
    assert max(first, second) <= uninformed


MATD3 = ("learner.warmup_steps=2000", "learner.batch=64", "learner.gamma=0.9")


def test_deterministic_actors_that_are_told_the_task_beat_the_bound_too() -> None:
    first, second, uninformed = learnt_returns("oracle", 10, "learner=matd3", *MATD3)
    assert min(first, second) > 0.5 * uninformed


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["mg2l_full", "mg2l_kalei"])
def test_a_team_that_infers_the_task_beats_the_bound_and_gets_better_within_the_trial(algo: str) -> None:
    first, second, uninformed = learnt_returns(algo, 90, "learner.initial_log_std=0", *ENCODER)
    assert first > uninformed
    assert second > 0.5 * uninformed
    assert second > first


@pytest.mark.slow
def test_deterministic_actors_that_infer_the_task_beat_the_bound_and_get_better_within_the_trial() -> None:
    """They have to try enough for the goal to show."""
    words = (*MATD3, "learner.exploration_noise=0.5")
    first, second, uninformed = learnt_returns("mg2l_kalei_matd3", 60, *words, *ENCODER)
    assert first > uninformed
    assert second > 0.5 * uninformed
    assert second > first
