"""Does QMIX on latents of replayed trials find out the task, where nothing but what was done and paid tells of it?"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from envs.toy_arms import Arms
from mg2l_kalei.acting.collector import Team, collect
from mg2l_kalei.config import load
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA, build
from tests.small_systems import generator

FIXED = ("env=toy-arms", "n_rows=16", "trial_steps=12", "device=cpu", "network.memory=none", "network.hidden=[32,32]")
LEARNER = ("learner.gamma=0.5", "learner.lr=3e-3", "learner.epsilon_steps=1500", "updates_per_episode=0.1")
ENCODER = ("encoder.hidden=[32,32]", "context.n_updates=12", "context.n_early_iterations=0", "context.length=12")
RATE = "encoder.late_encoder_lr=2e-3"
N_EPISODES = 12  # of one step each


def learnt(algo: str, n_iters: int, *words: str) -> tuple[Arms, Tensor]:
    """The family, and what episodes of a trial pay."""
    targets = "learner.target_update=20"
    config = load([f"algo={algo}", f"n_iters={n_iters}", *FIXED, *LEARNER, targets, *words], SCHEMA, CONFIG_DIR).config
    system = build(config, torch.device("cpu"))
    assert isinstance(system.family, Arms)
    trainer = MetaTrainer(system, Path("unused"))
    for _ in range(n_iters):
        trainer.iterate()
    env = system.family.make(90, torch.device("cpu"), generator())
    team = Team(system.learner, system.encoder, generator(1))
    steps = collect(env, team, torch.arange(90) % 3, N_EPISODES, explore=None).steps
    return system.family, steps.reward.mean((1, 2))


def test_a_team_that_is_told_the_task_plays_it_at_once() -> None:
    _, paid = learnt("qmix", 8, "encoder=oracle")
    assert paid.min() > 0.95


def test_a_team_that_does_not_infer_the_task_never_does() -> None:
    family, paid = learnt("qmix", 5)
    assert paid.mean() < 1.3 * family.forgetful_return


@pytest.mark.parametrize("algo", ["mg2l_qmix", pytest.param("mg2l_kalei_qmix", marks=pytest.mark.slow)])
def test_a_team_that_infers_the_task_plays_it_from_the_third_episode_on(algo: str) -> None:
    """No sooner can an arm be known that was not tried before."""
    family, paid = learnt(algo, 10, *ENCODER, RATE)
    assert paid[3:].min() > 0.9
    assert paid[0] < 0.6 and family.optimal_return(0) < 0.4
