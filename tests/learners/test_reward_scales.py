"""Does each agent learn from what it is paid, however much that is beside what others are paid?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from envs.core import EnvSpec, Observation, StepResult
from mg2l_kalei.acting.collector import Team, collect
from mg2l_kalei.learners.critic import Critic
from mg2l_kalei.learners.mappo import SCALES, Mappo, scale_per_agent
from mg2l_kalei.networks import NetworkConfig
from tests.small_systems import (
    CONTINUOUS,
    acted_by,
    at,
    draw,
    generator,
    make_encoder,
    make_learner,
    random_rollout,
    update,
    with_steps,
)

ONE_STEP = EnvSpec(n_agents=2, obs_dim=2, state_dim=4, action_dim=2, is_discrete=True, episode_steps=1)
LOUD = 30.0


def right(shown: Tensor) -> Tensor:
    """What pays each agent, who is shown 0 or 1: (B, 2)."""
    return torch.stack([shown[:, 0], 1 - shown[:, 1]], dim=-1)


class Wages:
    """Each agent is shown a bit. Agent 0 is paid 30 * (whether it says it + noise), agent 1 is paid 1 for the other."""

    spec = ONE_STEP

    def __init__(self, n_rows: int, seed: int) -> None:
        self.generator, self.shown = generator(seed), torch.zeros(n_rows, 2, dtype=torch.int64)

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        self.shown = torch.randint(2, self.shown.shape, generator=self.generator)
        return self._seen()

    def step(self, action: Tensor) -> StepResult:
        hit = (action == right(self.shown)).float()
        noise = torch.randn(len(hit), generator=self.generator)
        reward = torch.stack([LOUD * (hit[:, 0] + noise), hit[:, 1]], dim=-1)
        over = torch.ones(len(hit), dtype=torch.bool)
        obs, state, legal, alive = self._seen()
        return StepResult(obs, state, reward, over, torch.zeros_like(over), legal, alive)

    def scene(self, row: int) -> None:
        return None

    def _seen(self) -> Observation:
        obs = torch.nn.functional.one_hot(self.shown, 2).float()
        return Observation(obs, obs.flatten(1), None, torch.ones(self.shown.shape, dtype=torch.bool))


def hits(seed: int, **settings: Any) -> list[float]:
    """How often each agent's best action is right, after ten rollouts."""
    encoder, n_rows = make_encoder("none", ONE_STEP), 256
    fast: dict[str, Any] = {"lr_decay": "none", "n_epochs": 4, "actor_lr": 3e-3, "critic_lr": 3e-3}
    learner = make_learner(encoder, ONE_STEP, seed=seed, **fast, **settings)
    team, task = Team(learner, encoder, generator(1)), torch.zeros(n_rows, dtype=torch.int64)
    for i in range(10):
        rollout = collect(Wages(n_rows, 100 * seed + i), team, task, 1, explore=at(0))
        update(learner, encoder, rollout, 0, seed=i)
    played = collect(Wages(n_rows, 1000), team, task, 1, explore=None).steps
    return (played.action[0] == right(played.obs[0].argmax(-1))).float().mean(0).tolist()


@pytest.mark.parametrize("seed", [0, 1])
def test_an_agent_with_small_rewards_learns_beside_a_loud_one_unless_they_share_a_scale(seed: int) -> None:
    by_default, of_team = hits(seed), hits(seed, reward_scale="team")
    assert min(by_default) > 0.95
    assert of_team[0] > 0.95 and of_team[1] < 0.6


@pytest.mark.parametrize(
    ("setting", "shared_reward", "n_agents", "expected"),
    [
        ("auto", False, 3, True),
        ("auto", True, 3, False),
        ("auto", False, 1, False),
        ("agent", True, 3, True),
        ("team", False, 3, False),
    ],
)
def test_whose_scale_it_is(setting: str, shared_reward: bool, n_agents: int, expected: bool) -> None:
    assert setting in SCALES
    spec = CONTINUOUS._replace(shared_reward=shared_reward, n_agents=n_agents)
    assert scale_per_agent(setting, spec) == expected
    learner = make_learner(make_encoder("none", spec), spec, reward_scale=setting)
    assert isinstance(learner, Mappo) and len(learner.critic.moments.mean) == (n_agents if expected else 1)


def test_paying_one_agent_in_other_units_changes_nothing_for_anyone_who_has_a_scale_of_its_own() -> None:
    """Advantages and normalised returns are the same but for rounding."""
    results = []
    for unit in (1.0, 1000.0):
        encoder, rollout = make_encoder("none"), random_rollout()
        learner = make_learner(encoder, reward_scale="agent")
        assert isinstance(learner, Mappo)
        with torch.no_grad():  # values, which are not in anyone's units yet, are 0
            learner.critic.body.output.weight.zero_()
        paid = with_steps(rollout, reward=rollout.steps.reward * torch.tensor([unit, 1.0, 1.0]))
        samples, _ = learner._prepare(acted_by(learner, encoder, paid), paid.steps, torch.zeros(10, 4, 0))
        results.append(samples)
    torch.testing.assert_close(results[0].advantage, results[1].advantage, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(results[0].returns, results[1].returns, rtol=1e-4, atol=1e-5)
    advantage = results[0].advantage
    torch.testing.assert_close(advantage.mean((0, 1)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(advantage.std((0, 1)), torch.ones(3), rtol=0.02, atol=0)


every_form = pytest.mark.parametrize("per_agent", [False, True], ids=["one critic", "critic per agent"])


def make_critic(per_agent: bool) -> Critic:
    config = NetworkConfig(hidden=(8,))
    return Critic(CONTINUOUS, 2, config, generator(), per_agent=per_agent, scale_per_agent=True)


@every_form
def test_values_in_units_of_reward_stay_when_each_agents_scale_of_returns_changes(per_agent: bool) -> None:
    critic, alive = make_critic(per_agent), torch.ones(50, 4, 3, dtype=torch.bool)
    state, latent = draw(5, CONTINUOUS.state_dim), draw(5, 2, seed=1)
    untrained, _ = critic(state, latent)
    critic.fit_returns(draw(50, 4, 3) * torch.tensor([1.0, 7.0, 0.2]), alive)
    assert torch.equal(critic(state, latent)[0], untrained)  # the first returns only say where values begin
    before = critic.moments.denormalise(untrained)
    for scales in ([100.0, 0.1, 3.0], [0.1, 50.0, 2.0]):
        critic.fit_returns(torch.tensor(scales) * draw(50, 4, 3) + torch.tensor([-30.0, 5.0, 0.0]), alive)
        normalised, _ = critic(state, latent)
        torch.testing.assert_close(critic.moments.denormalise(normalised), before, rtol=1e-3, atol=1e-3)
        assert not torch.allclose(normalised, before, atol=0.1)
    assert len(set(critic.moments.std.tolist())) == 3


@every_form
def test_an_agent_that_never_lives_keeps_its_values_and_harms_nobodys(per_agent: bool) -> None:
    critic, alive = make_critic(per_agent), torch.ones(50, 4, 3, dtype=torch.bool)
    alive[..., 1] = False
    state, latent = draw(5, CONTINUOUS.state_dim), draw(5, 2, seed=1)
    untrained, _ = critic(state, latent)
    for scale in (1.0, 10.0, 100.0):
        returns = scale * draw(50, 4, 3) + 5
        returns[..., 1] = torch.nan
        before = critic.moments.denormalise(critic(state, latent)[0])
        critic.fit_returns(returns, alive)
        after = critic.moments.denormalise(critic(state, latent)[0])
        assert torch.equal(critic(state, latent)[0][:, 1], untrained[:, 1])
        if scale > 1:
            torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
    moments = critic.moments
    assert [float(x[1]) for x in (moments.count, moments.mean, moments.var)] == [0.0, 0.0, 1.0]
    assert all(parameter.isfinite().all() for parameter in critic.parameters())
    late = 1000 * draw(50, 4, 3)
    critic.fit_returns(late, torch.ones_like(alive))  # its first returns say where its values begin
    assert torch.equal(critic(state, latent)[0][:, 1], untrained[:, 1])
    assert float(moments.mean[1]) == pytest.approx(float(late[..., 1].mean()), rel=1e-4)
