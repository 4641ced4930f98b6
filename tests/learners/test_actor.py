"""Do actors act within what environments accept?"""

from __future__ import annotations

import torch

from mg2l_kalei.learners.mappo import Mappo
from tests.small_systems import CONTINUOUS, draw, generator, make_encoder, make_learner


def test_means_of_continuous_actions_stay_within_what_environments_do_not_clip() -> None:
    learner = make_learner(make_encoder("none", CONTINUOUS), CONTINUOUS, kind="mappo")
    assert isinstance(learner, Mappo)
    with torch.no_grad():
        learner.actor.body.output.bias.fill_(100.0)
    obs, latent = draw(5, CONTINUOUS.n_agents, CONTINUOUS.obs_dim), torch.zeros(5, CONTINUOUS.n_agents, 0)
    assert (learner.act(obs, None, latent, None, generator(), explore=False).action == 1).all()
