"""Do actors act within what environments accept, on observations of any scale and on latents as they are?"""

from __future__ import annotations

import torch

from mg2l_kalei.learners.mappo import Mappo
from tests.small_systems import (
    CONTINUOUS,
    acted_by,
    draw,
    generator,
    make_encoder,
    make_learner,
    random_rollout,
    update,
)


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


def test_gates_scale_observations_by_the_task_and_learn_with_the_rest() -> None:
    encoder = make_encoder("oracle", CONTINUOUS)
    learner = make_learner(encoder, CONTINUOUS, kind="mappo", task_gates=True)
    assert isinstance(learner, Mappo)
    actor, inputs = learner.actor_network, []
    assert actor.gates is not None
    obs, latent = draw(5, CONTINUOUS.n_agents, CONTINUOUS.obs_dim), draw(5, CONTINUOUS.n_agents, 2, seed=1)
    actor.fit_normaliser(draw(50, CONTINUOUS.n_agents, CONTINUOUS.obs_dim, seed=2))
    actor.body.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    actor(obs, torch.zeros_like(latent))
    actor(obs, latent)
    of_obs, *_ = actor.gates(latent)
    ungated, gated = (given[..., : CONTINUOUS.obs_dim] for given in inputs)
    assert torch.equal(gated, ungated * of_obs)
    before = [parameter.clone() for parameter in actor.gates.parameters()]
    metrics = update(learner, encoder, acted_by(learner, encoder, random_rollout()))
    assert metrics["train/first_ratio_error"] < 1e-5
    assert all(not torch.equal(old, new) for old, new in zip(before, actor.gates.parameters(), strict=True))
