"""Is memory across the episodes of a trial enough where the task has to be remembered, and needed?"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from envs import ENVS
from envs.toy_arms import Arms
from mg2l_kalei.acting.collector import Team, collect
from mg2l_kalei.config import load
from mg2l_kalei.networks.config import INPUTS
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA
from tests.small_systems import at, generator, make_encoder, make_learner, update

N_ROWS, N_EPISODES = 96, 5


def learnt_returns(memory: str, inputs: tuple[str, ...] = INPUTS) -> tuple[Arms, list[float]]:
    """The family, and mean returns of the mode in episodes 0, 1, ... of a trial after some seconds of learning."""
    family = Arms("toy-arms", ENVS["toy-arms"][1], np.random.default_rng(0))
    encoder = make_encoder("none", family.spec)
    learner = make_learner(
        encoder,
        family.spec,
        memory=memory,
        inputs=inputs,
        hidden=(16, 16),
        chunk_length=0,
        horizon="trial",
        actor_lr=5e-3,
        critic_lr=5e-3,
        lr_decay="none",
        n_epochs=4,
    )
    env, team = family.make(N_ROWS, torch.device("cpu"), generator(1)), Team(learner, encoder, generator(2))
    task = torch.arange(N_ROWS) % 3
    for i in range(50):
        update(learner, encoder, collect(env, team, task, N_EPISODES, explore=at(0)), seed=i)
    reward = collect(env, team, task, N_EPISODES, explore=None).steps.reward
    return family, reward.mean((1, 2)).tolist()


def test_a_memory_of_the_trial_reaches_the_optimum_of_the_bandit() -> None:
    family, learnt = learnt_returns("trial")
    assert learnt[-1] > 0.95 * family.optimal_return(N_EPISODES - 1)
    assert sum(learnt) > 0.9 * sum(map(family.optimal_return, range(N_EPISODES)))


@pytest.mark.parametrize(("memory", "inputs"), [("episode", INPUTS), ("trial", ())])
def test_without_it_or_what_it_must_remember_nothing_is_gained(memory: str, inputs: tuple[str, ...]) -> None:
    family, learnt = learnt_returns(memory, inputs)
    assert max(learnt) < 1.3 * family.forgetful_return


def test_the_recipe_is_rl2() -> None:
    config = load(["--algo=rl2", "--env=toy-arms"], SCHEMA, CONFIG_DIR).config
    assert config.kinds["encoder"] == "none" and config.network.memory == "trial"
    assert set(config.network.inputs) == set(INPUTS) and config.learner.horizon == "trial"


@pytest.mark.parametrize("env", ["mpe-spread", "mpe-wind", "rware-layout-large"])
def test_gradients_of_the_recipe_go_back_through_all_episodes_of_a_trial(env: str) -> None:
    config = load(["--algo=rl2", f"--env={env}"], SCHEMA, CONFIG_DIR).config
    episode_steps = ENVS[env][1].episode_steps
    assert config.trial_steps >= 2 * episode_steps
    assert config.network.chunk_length == 0
