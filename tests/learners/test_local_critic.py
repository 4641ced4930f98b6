"""Critics that judge by each agent's own observation: whose values depend on what, and in whose units are they?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mg2l_kalei.config import ConfigError
from mg2l_kalei.learners.mappo import Mappo
from mg2l_kalei.training.system import build
from tests.representatives import MAIN_SHARINGS
from tests.small_systems import (
    CONTINUOUS,
    acted_by,
    draw,
    make_encoder,
    make_learner,
    random_rollout,
    update,
    with_steps,
)
from tests.training.trainers import load_words

N, OBS = CONTINUOUS.n_agents, CONTINUOUS.obs_dim
every_sharing = pytest.mark.parametrize("sharing", MAIN_SHARINGS)


def local(sharing: str = "full", **settings: Any) -> Mappo:
    learner = make_learner(make_encoder("none"), kind="mappo", sharing=sharing, critic_input="obs", **settings)
    assert isinstance(learner, Mappo)
    return learner


def values(learner: Mappo, obs: Tensor) -> Tensor:
    """In units of reward."""
    return learner.critic.moments.denormalise(learner.critic(obs, torch.zeros(len(obs), 0))[0])


@every_sharing
def test_an_agents_value_is_of_its_own_observation_and_of_no_other(sharing: str) -> None:
    learner, obs = local(sharing), draw(5, N, OBS)
    other = obs.clone()
    other[:, 1] += 1
    changed = (values(learner, obs) - values(learner, other)).abs() > 1e-6
    assert changed[:, 1].all() and not changed[:, [0, 2]].any()


@every_sharing
def test_values_stay_when_the_scale_of_returns_changes(sharing: str) -> None:
    learner, obs, alive = local(sharing), draw(5, N, OBS), torch.ones(50, 4, N, dtype=torch.bool)
    untrained, _ = learner.critic(obs, torch.zeros(5, 0))
    learner.critic.fit_returns(draw(50, 4, N) * 7 + 3, alive)
    assert torch.equal(learner.critic(obs, torch.zeros(5, 0))[0], untrained)
    before = values(learner, obs)
    for scale, shift in ((100.0, -30.0), (0.1, 5.0)):
        learner.critic.fit_returns(scale * draw(50, 4, N) + shift, alive)
        torch.testing.assert_close(values(learner, obs), before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("first", [0.0, 0.01])
def test_the_critic_learns_though_the_first_rollout_pays_little(first: float) -> None:
    """As warehouses do: then the scale of returns grows a hundredfold at once."""
    encoder = make_encoder("none")
    learner = local(critic_lr=1e-2, gamma=0.0, n_epochs=10, n_minibatches=1, hidden=(16,))
    for seed in range(12):
        rollout = random_rollout(n_steps=20, n_rows=16, seed=seed)
        paid = with_steps(rollout, reward=rollout.steps.obs[..., 0] * (1.0 if seed else first))
        metrics = update(learner, encoder, acted_by(learner, encoder, paid))
    assert float(metrics["train/explained_variance"]) > 0.7


@pytest.mark.parametrize("memory", ["none", "episode"])
def test_the_critic_learns_what_each_agent_sees(memory: str) -> None:
    """Agents are paid for the first number that they see; the state is noise."""
    encoder = make_encoder("none")
    learner = local(memory=memory, critic_lr=1e-2, gamma=0.0, n_epochs=10, n_minibatches=1, hidden=(16,))
    for seed in range(12):
        rollout = random_rollout(n_steps=20, n_rows=16, seed=seed)
        paid = rollout._replace(steps=rollout.steps._replace(reward=rollout.steps.obs[..., 0]))
        metrics = update(learner, encoder, acted_by(learner, encoder, paid))
        assert float(metrics["train/first_ratio_error"]) < 1e-5
    assert float(metrics["train/explained_variance"]) > 0.8


@pytest.mark.parametrize("word", ["critic_per_agent=true", "reward_scale=agent"])
def test_settings_that_would_decide_nothing_are_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=f"learner.kind=mappo: {word}"):
        build(load_words("--algo=fups", "--env=toy-turns", word), torch.device("cpu"))
