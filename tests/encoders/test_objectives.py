"""Do objectives look at what they should, and train what they should?"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from mg2l_kalei.encoders.mg2l import Mg2lEncoder
from mg2l_kalei.encoders.objectives import OBJECTIVES
from mg2l_kalei.encoders.objectives.base import Level
from mg2l_kalei.encoders.objectives.trajectory import kl_to_previous, mixed
from mg2l_kalei.losses.inference import Gaussian
from mg2l_kalei.types import Contexts, Metrics
from tests.small_systems import as_contexts, draw, generator, make_encoder, random_rollout

ON_TRIALS = ("trajectory", "mixture")


@pytest.fixture
def contexts() -> Contexts:
    return as_contexts(random_rollout(n_rows=6))


def told(contexts: Contexts, *objectives: str) -> tuple[Mg2lEncoder, Metrics]:
    """An encoder with these objectives, with the gradient of its loss, and its metrics."""
    encoder = make_encoder("mg2l", objectives=objectives, prediction_coef=1.0)
    assert isinstance(encoder, Mg2lEncoder)
    loss, metrics = encoder.loss(contexts, generator())
    loss.backward()
    return encoder, metrics


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_alone_trains_something_and_all_that_it_adds(contexts: Contexts, name: str) -> None:
    encoder, metrics = told(contexts, name)
    assert all(torch.as_tensor(value).isfinite() for value in metrics.values())
    assert any(p.grad is not None and p.grad.any() for p in encoder.parameters())
    for objective in encoder.objectives:
        added = [] if objective.network is None else list(objective.network.parameters())
        assert all(p.grad is not None and p.grad.any() for p in added)


def test_a_loss_is_the_sum_of_its_objectives(contexts: Contexts) -> None:
    """Of those that draw nothing for themselves, from the same samples."""
    names = ("contrast", "kl", "local_contrast", "reward_prediction")
    each = [told(contexts, name)[1]["encoder/loss"] for name in names]
    torch.testing.assert_close(
        told(contexts, *names)[1]["encoder/loss"], torch.stack(list(map(torch.as_tensor, each))).sum()
    )


def test_each_posterior_is_compared_with_the_one_before_it() -> None:
    q = Gaussian(draw(4, 2, 3), 0.3 * draw(4, 2, 3, seed=1))
    normals = [Normal(torch.zeros(2, 3), 1.0), *map(Normal, q.mean, q.log_std.exp())]
    expected = [kl_divergence(after, before).sum(-1) for before, after in pairwise(normals)]
    torch.testing.assert_close(kl_to_previous(q), torch.stack(expected))


def test_the_mixture_is_of_the_teams_latent_and_of_every_agents() -> None:
    shapes = ((5, 2, 4), (5, 2, 3, 4))
    levels = [Level(Gaussian(draw(*s), draw(*s, seed=1)), draw(*s, seed=2)) for s in shapes]
    q, z = mixed(*levels)
    assert z.shape == q.mean.shape == (5, 2, 4, 4)
    assert torch.equal(z[:, :, 0], levels[0].z) and torch.equal(z[:, :, 1:], levels[1].z)


@pytest.mark.parametrize("name", ON_TRIALS)
def test_what_all_of_the_trial_holds_is_learned_by_all_agents_layers(contexts: Contexts, name: str) -> None:
    encoder, _ = told(contexts, name)
    moved = {key.split(".")[0] for key, p in encoder.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {
        "transition_encoder",
        "time_pooling",
        "agent_pooling",
        "global_layer",
        "local_layer",
        OBJECTIVES[name].network_name,
    }


def test_a_mixtures_latents_predict_the_step_after_what_they_have_seen(contexts: Contexts) -> None:
    """The first step is nobody's to predict, and of the last, which nothing is predicted from, only what came of it."""
    first = contexts.transition._replace(reward=contexts.transition.reward.clone())
    first.reward[-1, :, 1] += 1.0  # agent 1's, which all agents' latents predict
    encoder = make_encoder("mg2l", objectives=("mixture",), posterior="deterministic")
    assert isinstance(encoder, Mg2lEncoder)
    inferred = [encoder._inferred(each, generator()) for each in (contexts, contexts._replace(transition=first))]
    assert torch.equal(inferred[0].local.z[:-1], inferred[1].local.z[:-1])
    losses = [encoder.objectives[0].loss(each)[0] for each in inferred]
    assert losses[0] != losses[1]


def test_labels_reach_local_latents_through_prototypes_alone_that_contrast_trains(contexts: Contexts) -> None:
    """Without it, z^i is to say what z says, not which task it is."""
    for objectives in (("kl", "local"), ("kl", "local", "contrast")):
        losses = []
        for shift in (0.0, 5.0):
            encoder = make_encoder("mg2l", objectives=objectives)
            assert isinstance(encoder, Mg2lEncoder)
            with torch.no_grad():
                encoder.prototypes[:1] += shift
            losses.append(encoder.loss(contexts, generator())[1]["encoder/local_loss"])
        assert bool(losses[0] == losses[1]) == ("contrast" not in objectives)


@pytest.mark.parametrize("name", ON_TRIALS)
def test_any_step_of_a_long_trial_may_be_predicted(name: str) -> None:
    """What is lived through every other step cannot stay unseen, in whichever steps those are."""
    long = as_contexts(random_rollout(n_rows=2, n_steps=96))
    for first in (0, 1):
        reward = long.transition.reward.clone()
        reward[first::2] += 10.0
        other = long._replace(transition=long.transition._replace(reward=reward))
        losses = [loss_of(name, part) for part in (long, other)]
        assert losses[0] != losses[1]


@pytest.mark.parametrize("name", ON_TRIALS)
def test_what_agents_that_have_gone_see_counts_nowhere(contexts: Contexts, name: str) -> None:
    transition = contexts.transition
    alive = transition.alive.clone()
    alive[2:, :, 0] = False
    moved = transition.reward.clone()
    moved[2:, :, 0] += 100.0
    some = [transition._replace(alive=alive, reward=reward) for reward in (transition.reward, moved)]
    losses = [loss_of(name, contexts._replace(transition=part)) for part in some]
    torch.testing.assert_close(losses[0], losses[1])


def loss_of(name: str, contexts: Contexts) -> torch.Tensor:
    """Of an encoder whose inputs are standardised by nothing that was seen."""
    return torch.as_tensor(make_encoder("mg2l", objectives=(name,)).loss(contexts, generator())[1]["encoder/loss"])
