"""Do the rivals of MG2L come to infer the hidden task, each by what it is trained by?"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from envs.toy import Corners
from mg2l_kalei.acting.collector import Team, collect
from mg2l_kalei.config import load
from mg2l_kalei.evaluation.probe import probe_accuracy
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA, build
from tests.small_systems import generator

SMALL = (
    "env=toy-corners trial_steps=40 device=cpu network.hidden=[32,32] encoder.hidden=[32,32] "
    "learner.actor_lr=2e-3 learner.critic_lr=2e-3 context.n_updates=10 context.n_early_iterations=0"
)
# What each needs of it to be quick.
ITERATIONS = {"varibad": 15, "mate": 10, "centralised": 8}


def trainer_of(algo: str, n_iters: int, *words: str, n_rows: int = 16) -> MetaTrainer:
    config = load(
        [f"algo={algo}", f"n_iters={n_iters}", f"n_rows={n_rows}", *SMALL.split(), *words], SCHEMA, CONFIG_DIR
    ).config
    return MetaTrainer(build(config, torch.device("cpu")), Path("unused"))


def played(trainer: MetaTrainer) -> tuple[float, tuple[float, float]]:
    """How well the probe reads the corner from agent 0's latent at the end of a trial; returns of its two episodes."""
    family, system, n_tasks, n_trials = trainer.system.family, trainer.system, 4, 32
    env = family.make(n_tasks * n_trials, torch.device("cpu"), generator())
    team = Team(system.learner, system.encoder, generator(1))
    task = torch.arange(n_tasks).repeat_interleave(n_trials)
    trial = collect(env, team, task, 40, explore=None)
    reward = trial.steps.reward.mean(-1)
    read = probe_accuracy(trial.latent[-1, :, 0].view(n_tasks, n_trials, -1).numpy())
    return read, (float(reward[:20].sum(0).mean()), float(reward[20:].sum(0).mean()))


@pytest.mark.parametrize("algo", ITERATIONS)
def test_the_task_comes_to_be_read_from_an_agents_latent(algo: str) -> None:
    trainer = trainer_of(algo, ITERATIONS[algo])
    trainer.iterate()
    before, _ = played(trainer)
    for _ in range(ITERATIONS[algo] - 1):
        trainer.iterate()
    after, _ = played(trainer)
    assert after > max(0.85, before)


SAMPLED = {
    "mappo": ("learner.initial_log_std=0",),
    "matd3": ("learner=matd3", "learner.trains_encoder=true", "learner.warmup_steps=2000"),
}


@pytest.mark.slow
@pytest.mark.parametrize("learner", SAMPLED)
def test_posterior_sampling_learns_from_the_critic_alone_and_pays_in_the_second_episode(learner: str) -> None:
    trainer = trainer_of("pearl", 80, *SAMPLED[learner], n_rows=32)
    for _ in range(80):
        trainer.iterate()
    read, (first, second) = played(trainer)
    assert isinstance(trainer.system.family, Corners)
    assert read > 0.85
    assert second > trainer.system.family.uninformed_return > first
