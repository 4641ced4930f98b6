"""What are actors and critics told of a posterior, and when is it read?"""

from __future__ import annotations

from typing import Any

import torch

from mg2l_kalei.acting.collector import Team
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.encoders.mg2l import last_starts
from mg2l_kalei.learners.optimiser import back_through
from mg2l_kalei.types import Rollout, Transition
from tests.small_systems import draw, generator, make_encoder, make_learner, random_rollout, with_steps

EPISODES: dict[str, Any] = {"pooling": "gaussian_product", "read_at": "episode"}


def acted_on(encoder: TaskEncoder, rollout: Rollout, *, sample: bool) -> torch.Tensor:
    """What a team that lives through the rollout is told before each step and after the last: (T + 1, B, N, dim)."""
    team = Team(make_learner(encoder), encoder, generator())
    team.begin(rollout.task, sample=sample)
    latents = []
    for t, ends in enumerate(rollout.steps.ends):
        latents.append(team.latent)
        team.act(rollout.steps.obs[t])
        team.observe(Transition(*(field[t] for field in rollout.transition)))
        team.restart(ends)
    return torch.stack([*latents, team.latent])


def test_beliefs_of_episodes_are_read_when_one_begins() -> None:
    rollout = random_rollout()  # episodes of 4 steps in a trial of 9
    ends = rollout.steps.truncated.clone()
    ends[5, 1] = True  # and one that ends early
    starts = torch.cat([torch.ones_like(ends[:1]), ends[:-1]])
    rollout = with_steps(rollout, truncated=ends, episode_start=starts)
    encoder = make_encoder("mg2l", **EPISODES)
    encoder.fit_normaliser(rollout.transition)
    told = encoder.latents(rollout).local
    torch.testing.assert_close(acted_on(encoder, rollout, sample=False), told, rtol=1e-5, atol=1e-5)
    at_every_step = make_encoder("mg2l", pooling="gaussian_product")
    at_every_step.load_state_dict(encoder.state_dict())
    expected = at_every_step.latents(rollout).local
    assert torch.equal(told[5, 0], expected[4, 0]) and torch.equal(told[7, 1], expected[6, 1])
    assert last_starts(rollout.steps)[:, 1].tolist() == [0, 0, 0, 0, 4, 4, 6, 6, 8, 8]


def test_a_sample_is_held_through_the_episode() -> None:
    rollout, encoder = random_rollout(), make_encoder("mg2l", **EPISODES, sampled=True)
    assert encoder.acts_on_samples
    told = acted_on(encoder, rollout, sample=True)
    (learned_on, _), _ = encoder.learned_latents(rollout, generator())
    for latents in (told, learned_on):
        assert torch.equal(latents[0], latents[3]) and torch.equal(latents[4], latents[7])
        assert not torch.equal(latents[3], latents[4]) and latents[0].abs().min() > 0  # drawn from the prior


def test_mean_and_standard_deviation_say_that_nothing_is_known_at_first() -> None:
    rollout, encoder = random_rollout(), make_encoder("mg2l", told="mean_std")
    assert encoder.local_dim == encoder.global_dim == 8 and not encoder.is_stochastic
    latents = encoder.latents(rollout)
    assert torch.equal(latents.local[0, 0, 0], torch.tensor([0.0] * 4 + [1.0] * 4))
    assert (latents.local[..., 4:] > 0).all() and (latents.local[3, ..., 4:] != 1).any()


def test_a_centralised_team_is_told_the_global_latent_in_execution_too() -> None:
    rollout, encoder = random_rollout(), make_encoder("mg2l", actors_see="global")
    encoder.fit_normaliser(rollout.transition)
    latents = encoder.latents(rollout)
    assert torch.equal(latents.local, latents.global_.unsqueeze(-2).expand_as(latents.local))
    torch.testing.assert_close(acted_on(encoder, rollout, sample=False), latents.local, rtol=1e-5, atol=1e-5)
    obs = rollout.steps.obs.clone()
    obs[:, :, 1] += 1.0
    assert (encoder.latents(with_steps(rollout, obs=obs)).local[1:, :, 0] != latents.local[1:, :, 0]).any(-1).all()


def test_values_bear_the_divergence_from_the_prior() -> None:
    rollout = random_rollout()
    encoder = make_encoder("mg2l", pooling="gaussian_product", objectives=(), critic_kl_coef=2.0)
    assert not encoder.has_loss and encoder.learns
    _, cost = encoder.learned_latents(rollout, generator())
    (half,) = [make_encoder("mg2l", pooling="gaussian_product", critic_kl_coef=1.0)]
    torch.testing.assert_close(cost, 2 * half.learned_latents(rollout, generator())[1])
    held = make_encoder("mg2l", pooling="gaussian_product", critic_kl_coef=1.0, read_at="episode")
    read, every = (encoder.learned_latents(rollout, generator())[1] for encoder in (held, half))
    assert read < every, "of the posteriors that are read, in which less is known"
    z = draw(3, 2).requires_grad_()
    loss, gradient = back_through(z, torch.ones(3, 2), z.square().sum())
    loss.backward(gradient)
    torch.testing.assert_close(z.grad, 1 + 2 * z.detach())
    assert back_through(z, torch.ones(3, 2), torch.zeros(()))[0] is z
