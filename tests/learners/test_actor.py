"""Do actors act within what environments accept, on observations of any scale and on latents as they are?"""

from __future__ import annotations

import torch

from mg2l_kalei.learners.mappo import Mappo
from tests.small_systems import CONTINUOUS, draw, generator, make_encoder, make_learner


def test_means_of_continuous_actions_stay_within_what_environments_do_not_clip() -> None:
    learner = make_learner(make_encoder("none", CONTINUOUS), CONTINUOUS, kind="mappo")
    assert isinstance(learner, Mappo)
    with torch.no_grad():
        learner.actor_network.body.output.bias.fill_(100.0)
    obs, latent = draw(5, CONTINUOUS.n_agents, CONTINUOUS.obs_dim), torch.zeros(5, CONTINUOUS.n_agents, 0)
    assert (learner.act(obs, None, latent, None, generator(), explore=None).action == 1).all()


def test_observations_are_standardised_and_latents_are_not() -> None:
    learner = make_learner(make_encoder("oracle", CONTINUOUS), CONTINUOUS, kind="mappo")
    assert isinstance(learner, Mappo)
    actor, inputs = learner.actor_network, []
    obs, latent = 100 * draw(50, CONTINUOUS.n_agents, CONTINUOUS.obs_dim) + 7, 3 * draw(50, CONTINUOUS.n_agents, 2)
    actor.fit_normaliser(obs)
    actor.body.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    actor(obs, latent)
    standardised, given = inputs[0].split((CONTINUOUS.obs_dim, 2), dim=-1)
    assert torch.equal(given, latent)
    assert standardised.mean().abs() < 0.1 and 0.9 < standardised.std() < 1.1
