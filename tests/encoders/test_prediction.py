"""Does looking back a step show hidden forces, and does prediction tell where in a continuum a task is?"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from envs.mpe.wind import Wind, WindConfig
from mg2l_kalei.buffers.contexts import ContextConfig
from mg2l_kalei.encoders.mg2l import Mg2lConfig, Mg2lEncoder
from mg2l_kalei.encoders.objectives.prediction import LOG_STD_RANGE, N_PREDICTED, OutcomeDecoder, OutcomePredictor
from mg2l_kalei.encoders.posterior import PosteriorLayer
from mg2l_kalei.types import Contexts, Rollout, TaskLatent, Transition
from tests.small_systems import (
    DISCRETE,
    SPECS,
    as_contexts,
    draw,
    generator,
    make_encoder,
    random_play,
    random_rollout,
    sampler,
    with_steps,
)

PREDICTION_ALONE: dict[str, Any] = {
    "pairwise_coef": 0.0,
    "prototype_coef": 0.0,
    "reward_prediction_coef": 0.0,
    "kl_coef": 0.0,
}


def in_one_piece(rollout: Rollout) -> Rollout:
    """The rollout, what is seen next in a step being what is seen in the next, but where an episode starts."""
    goes_on = ~rollout.steps.episode_start[1:, :, None, None]
    obs = torch.cat([rollout.steps.obs[:1], torch.where(goes_on, rollout.steps.next_obs[:-1], rollout.steps.obs[1:])])
    return with_steps(rollout, obs=obs)


def step(transition: Transition, t: int) -> Transition:
    return Transition(*(field[t] for field in transition))


@pytest.mark.parametrize("pooling", ["attention_head", "recurrent"])
@pytest.mark.parametrize("actions", SPECS)
def test_looking_back_streaming_prefixes_and_whole_contexts_agree(pooling: str, actions: str) -> None:
    rollout = in_one_piece(random_rollout(SPECS[actions]))
    encoder = make_encoder("mg2l", SPECS[actions], second_order=True, pooling=pooling)
    encoder.fit_normaliser(rollout.transition)
    prefixes, belief = encoder.latents(rollout), encoder.prior(rollout.task)
    for t in range(len(rollout.steps.reward)):
        belief = encoder.observe(belief, step(rollout.transition, t))
        at_t = TaskLatent(prefixes.global_[t + 1], prefixes.local[t + 1])
        torch.testing.assert_close(encoder.latent(belief), at_t, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(encoder.encode(as_contexts(rollout)), encoder.latent(belief), rtol=1e-5, atol=1e-5)


def test_the_step_before_counts_within_an_episode_and_nowhere_else() -> None:
    encoder = make_encoder("mg2l", DISCRETE, second_order=True)
    assert isinstance(encoder, Mg2lEncoder)
    now, before = (random_rollout(DISCRETE, seed=seed).transition for seed in (0, 1))
    now, before = step(now, 0), step(before, 0)
    embed = encoder.transition_encoder.after
    assert now.episode_start.all() and torch.equal(embed(before, now), embed(None, now))
    now = now._replace(episode_start=torch.tensor([False, True, True, True]))
    differs = (embed(before, now) != embed(None, now)).any(-1)
    assert differs[0].all() and not differs[1:].any()
    other_action = before._replace(action=(before.action + 1) % DISCRETE.action_dim)
    assert (embed(other_action, now)[0] != embed(before, now)[0]).any(-1).all()


def test_surprise_is_the_negative_log_likelihood_of_every_transition_under_every_latent() -> None:
    M, K, R, N, dim = 3, 2, 4, 2, 5
    predictor = OutcomePredictor(6, 7, dim, generator())
    given, outcome, z = draw(M, R, N, 6), draw(M, R, N, 7, seed=1), draw(K, R, N, dim, seed=2)
    expected = []
    for m in range(M):
        for k in range(K):
            hidden = torch.nn.functional.gelu(predictor.from_given(given[m]) + predictor.from_latent(z[k]))
            mean, log_std = predictor.output(hidden).chunk(2, dim=-1)
            scale = log_std.clamp(*LOG_STD_RANGE).exp()
            expected.append(-torch.distributions.Normal(mean, scale).log_prob(outcome[m]).sum(-1).mean())
    torch.testing.assert_close(predictor(given, outcome, z), torch.stack(expected).mean())


def test_a_decoders_surprise_is_the_rewards_error_and_the_mean_of_what_is_seen_next() -> None:
    M, K, R, N, dim = 3, 2, 4, 2, 5
    decoder = OutcomeDecoder(6, 9, dim, generator(), n_rewards=2)
    given, outcome, z = draw(M, R, N, 6), draw(M, R, N, 9, seed=1), draw(K, R, N, dim, seed=2)
    expected = []
    for m in range(M):
        for k in range(K):
            seen = decoder.seen(given[m : m + 1], z[k : k + 1])[0, 0]
            known = torch.cat([given[m], outcome[m, ..., :7]], dim=-1)  # rewards follow from what is seen next, too
            paid = decoder.paid(known[None], z[k : k + 1])[0, 0]
            of_seen, of_paid = (seen - outcome[m, ..., :7]).square(), (paid - outcome[m, ..., 7:]).square()
            expected.append((of_seen.mean(-1) + of_paid.mean(-1)).mean())
    torch.testing.assert_close(decoder(given, outcome, z), torch.stack(expected).mean())
    shared = [part[:, :, :1] for part in (given, outcome)]
    whole = [part.expand(-1, -1, N, -1) for part in shared]
    torch.testing.assert_close(decoder(*shared, z), decoder(*whole, z))


def test_a_decoder_that_is_given_the_task_tells_what_it_pays() -> None:
    """The reward is one of two numbers seen next, by the task: no sum of what the one and the other say."""
    given, seen, task = draw(64, 16, 1, 2), draw(64, 16, 1, 2, seed=1), torch.arange(16) % 2
    paid = torch.where(task[:, None, None].bool(), seen[..., :1], seen[..., 1:])
    outcome, z = torch.cat([seen, paid], dim=-1), (2.0 * task - 1).view(1, 16, 1, 1)
    decoder = OutcomeDecoder(2, 3, 1, generator())
    adam = torch.optim.Adam(decoder.parameters(), lr=3e-3)
    for _ in range(150):
        loss = decoder(given, outcome, z)
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        error = decoder.paid(torch.cat([given, seen], dim=-1), z).squeeze(1) - paid
        blind = decoder.paid(torch.cat([given, seen], dim=-1), 0 * z).squeeze(1) - paid
    assert error.square().mean() < 0.05 < blind.square().mean()


def test_prediction_trains_both_levels_but_z_i_the_local_layer_alone() -> None:
    contexts = as_contexts(random_rollout(n_rows=6))
    gradients = {}
    for coef in (1e-9, 1.0):
        encoder = make_encoder("mg2l", prediction_coef=coef, **PREDICTION_ALONE)
        assert isinstance(encoder, Mg2lEncoder) and isinstance(encoder.global_layer, PosteriorLayer)
        with torch.no_grad():  # z tells nothing to the predictor: what is left comes by way of z^i
            encoder.global_layer.output.weight.zero_()
        encoder.loss(contexts, generator())[0].backward()
        gradients[coef] = {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}
    moved = {name for name, g in gradients[1.0].items() if not torch.allclose(g, gradients[1e-9][name], atol=1e-7)}
    assert {name.split(".")[0] for name in moved} == {"local_layer", "predictor", "global_layer"}


def test_what_is_predicted_happened_in_the_paired_context(monkeypatch: pytest.MonkeyPatch) -> None:
    contexts = as_contexts(random_rollout(n_rows=6))
    encoder = make_encoder("mg2l", prediction_coef=1.0, posterior="deterministic", **PREDICTION_ALONE)
    asked: list[tuple[Tensor, Tensor]] = []

    def remember(_: OutcomePredictor, given: Tensor, outcome: Tensor, z: Tensor, alive: Tensor | None) -> Tensor:
        assert alive is None  # all agents are there
        asked.append((outcome, z[-1]))
        return torch.zeros(())

    monkeypatch.setattr(OutcomePredictor, "forward", remember)
    encoder.loss(contexts, generator())
    assert isinstance(encoder, Mg2lEncoder)
    happened = encoder.transition_encoder.given_and_outcome(contexts.transition)[1][-N_PREDICTED:]
    latent = encoder.encode(contexts)
    for (outcome, z), own in zip(
        asked, (latent.global_.unsqueeze(1).expand_as(latent.local), latent.local), strict=True
    ):
        torch.testing.assert_close(outcome, happened[:, [3, 4, 5, 0, 1, 2]])
        torch.testing.assert_close(z, own)


def explained(encoder: Mg2lEncoder, contexts: Contexts, winds: Tensor) -> float:
    """Share of the winds' variance that a linear map of the first agent's own latent explains, where not fitted."""
    with torch.no_grad():
        z = encoder.encode(contexts).local[:, 0]
    z, half = torch.cat([z, torch.ones(len(z), 1)], dim=1), len(z) // 2
    fit = torch.linalg.lstsq(z[:half], winds[:half]).solution
    return 1 - float((z[half:] @ fit - winds[half:]).square().sum() / winds[half:].square().sum())


def test_prediction_teaches_each_agents_own_latent_what_wind_blows() -> None:
    family = Wind("mpe-wind", WindConfig(n_train=16, episode_steps=20), np.random.default_rng(0))
    seen, unseen = (random_play(family, torch.arange(n) % 16, seed) for n, seed in ((128, 0), (256, 10)))
    config = dataclasses.replace(
        Mg2lConfig(), latent_dim=4, hidden=(64, 64), second_order=True, prediction_coef=1.0, **PREDICTION_ALONE
    )
    encoder = Mg2lEncoder(config, family.spec, family.features(), 16, generator())
    encoder.fit_normaliser(seen.transition)
    contexts = sampler(seen, family.spec, ContextConfig(batch=32, length=16), n_consecutive=2)
    optimiser, stream = torch.optim.AdamW(encoder.parameters(), lr=3e-3), generator()
    winds = family.features()[unseen.task]
    before = explained(encoder, unseen, winds)
    for _ in range(200):
        loss, _ = encoder.loss(contexts.sample(stream), stream)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = explained(encoder, unseen, winds)
    assert before < 0.7 < 0.85 < after
