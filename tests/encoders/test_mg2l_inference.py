"""Does the multi-level encoder infer as its paper has it, with every pooling and posterior?"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from mg2l_kalei.config.settings import rules
from mg2l_kalei.encoders.mg2l import Mg2lConfig, Mg2lEncoder
from mg2l_kalei.types import Contexts, Rollout, TaskLatent, Transition
from tests.small_systems import as_contexts, draw, generator, make_encoder, random_rollout, with_steps

RULES = rules(Mg2lConfig)
POOLINGS, POSTERIORS = RULES["pooling"].choices or (), RULES["posterior"].choices or ()
SETS = [pooling for pooling in POOLINGS if pooling not in ("recurrent", "transformer", "retention")]
every_variant = pytest.mark.parametrize(("pooling", "posterior"), list(product(POOLINGS, POSTERIORS)))
every_pooling = pytest.mark.parametrize("pooling", POOLINGS)


def fitted(rollout: Rollout, **settings: Any) -> Mg2lEncoder:
    """An encoder that has seen the rollout's scales, and whose empty contexts are not empty by accident."""
    encoder = make_encoder("mg2l", **settings)
    assert isinstance(encoder, Mg2lEncoder)
    encoder.fit_normaliser(rollout.transition)
    with torch.no_grad():
        for parameter in encoder.parameters():  # tokens and biases are zero at first
            parameter.add_(0.1 * draw(*parameter.shape, seed=parameter.numel()))
    return encoder


def stream(encoder: Mg2lEncoder, rollout: Rollout) -> TaskLatent:
    """Latents after the whole trial, one transition at a time."""
    belief = encoder.prior(rollout.task)
    for t in range(len(rollout.steps.reward)):
        belief = encoder.observe(belief, Transition(*(field[t] for field in rollout.transition)))
    return encoder.latent(belief)


def at_steps(contexts: Contexts, steps: Tensor) -> Contexts:
    return contexts._replace(transition=Transition(*(field[steps] for field in contexts.transition)))


@every_variant
def test_streaming_prefixes_and_whole_contexts_agree(pooling: str, posterior: str) -> None:
    """On trials longer than the attention blocks' window, which is 4."""
    rollout = random_rollout(n_steps=9)
    encoder = fitted(rollout, pooling=pooling, posterior=posterior)
    prefixes = encoder.latents(rollout)
    for t in (1, 4, 9):
        begun = with_steps(rollout, **{name: field[:t] for name, field in rollout.transition._asdict().items()})
        at_t = TaskLatent(prefixes.global_[t], prefixes.local[t])
        torch.testing.assert_close(stream(encoder, begun), at_t, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(encoder.encode(as_contexts(begun)), at_t, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(prefixes.local[4], prefixes.local[9], atol=1e-3)


@every_variant
def test_the_empty_context_is_the_prior(pooling: str, posterior: str) -> None:
    rollout = random_rollout(n_rows=2000, n_steps=1)
    encoder = fitted(rollout, pooling=pooling, posterior=posterior)
    for mean in (*encoder.latent(encoder.prior(rollout.task)), *(part[0] for part in encoder.latents(rollout))):
        assert (mean == 0).all()
    sampled = encoder.latent(encoder.prior(rollout.task), sample=True, generator=generator())
    for part in sampled:
        if posterior == "deterministic":
            assert (part == 0).all()
        else:
            torch.testing.assert_close(part.std(0), torch.ones_like(part[0]), rtol=0.1, atol=0)
            assert part.mean(0).abs().max() < 0.1


@pytest.mark.parametrize("pooling", SETS)
def test_the_order_of_a_context_does_not_matter(pooling: str) -> None:
    rollout = random_rollout(n_steps=4)
    encoder, contexts = fitted(rollout, pooling=pooling), as_contexts(rollout)
    shuffled = at_steps(contexts, torch.tensor([2, 0, 3, 1]))
    torch.testing.assert_close(encoder.encode(shuffled), encoder.encode(contexts), rtol=1e-5, atol=1e-5)


def test_attention_blocks_remember_the_last_window_alone() -> None:
    rollout = random_rollout(n_steps=9)
    encoder, contexts = fitted(rollout, pooling="attention_blocks", window=4), as_contexts(rollout)
    last = at_steps(contexts, torch.tensor([5, 6, 7, 8]))
    torch.testing.assert_close(encoder.encode(contexts), encoder.encode(last), rtol=1e-5, atol=1e-5)
    wider = at_steps(contexts, torch.tensor([4, 5, 6, 7]))
    assert not torch.allclose(encoder.encode(contexts).local, encoder.encode(wider).local, atol=1e-3)


@pytest.mark.parametrize("changed", ["obs", "action", "reward", "next_obs"])
@every_variant
def test_a_local_latent_ignores_the_other_agents_exactly(pooling: str, posterior: str, changed: str) -> None:
    rollout = random_rollout()
    encoder = fitted(rollout, pooling=pooling, posterior=posterior)
    field = getattr(rollout.steps, changed).clone()
    field[:, :, 1] += 1.0
    before, after = encoder.latents(rollout), encoder.latents(with_steps(rollout, **{changed: field}))
    assert torch.equal(before.local[:, :, [0, 2]], after.local[:, :, [0, 2]])
    assert (before.local[1:, :, 1] != after.local[1:, :, 1]).any(-1).all()
    assert (before.global_[1:] != after.global_[1:]).any(-1).all()


@every_pooling
def test_agents_are_a_set_too(pooling: str) -> None:
    rollout = random_rollout()
    encoder, order = fitted(rollout, pooling=pooling), torch.tensor([2, 0, 1])
    of_agents = {name: getattr(rollout.steps, name)[:, :, order] for name in ("obs", "action", "reward", "next_obs")}
    permuted = with_steps(rollout, **of_agents)
    before, after = encoder.latents(rollout), encoder.latents(permuted)
    torch.testing.assert_close(after.local, before.local[:, :, order], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(after.global_, before.global_, rtol=1e-5, atol=1e-5)


@every_pooling
def test_rows_do_not_influence_each_other(pooling: str) -> None:
    rollout = random_rollout()
    encoder = fitted(rollout, pooling=pooling)
    of_one = {name: field[:, 2:3] for name, field in rollout.transition._asdict().items()}
    alone, together = encoder.latents(with_steps(rollout, **of_one)), encoder.latents(rollout)
    torch.testing.assert_close(alone.local[:, 0], together.local[:, 2], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(alone.global_[:, 0], together.global_[:, 2], rtol=1e-5, atol=1e-5)


@every_variant
def test_samples_are_drawn_from_the_generator_around_the_mean(pooling: str, posterior: str) -> None:
    rollout = random_rollout()
    encoder, contexts = fitted(rollout, pooling=pooling, posterior=posterior), as_contexts(rollout)
    mean = encoder.encode(contexts)
    first, again, other = (encoder.encode(contexts, sample=True, generator=generator(seed)) for seed in (0, 0, 1))
    for m, a, b, c in zip(mean, first, again, other, strict=True):
        assert torch.equal(a, b)
        assert ((a != c).all() and (a != m).all()) == (posterior == "gaussian")


@every_pooling
def test_a_held_latent_is_that_of_its_contexts_at_every_step_and_carries_gradients(pooling: str) -> None:
    rollout, other = random_rollout(), random_rollout(n_steps=5, seed=7)
    encoder, contexts = fitted(rollout, pooling=pooling), as_contexts(other)
    latents, expected = encoder.latents(rollout._replace(contexts=contexts)), encoder.encode(contexts)
    assert len(latents.global_) == len(rollout.steps.reward) + 1
    for t in range(len(latents.global_)):
        assert torch.equal(latents.global_[t], expected.global_) and torch.equal(latents.local[t], expected.local)
    assert latents.global_.requires_grad


@every_pooling
def test_inputs_are_standardised(pooling: str) -> None:
    """Units do not matter: an encoder that has seen the scales infers the same from metres and from kilometres."""
    rollout = random_rollout(n_steps=30, n_rows=8)
    rescaled = with_steps(
        rollout,
        obs=1000 * rollout.steps.obs - 5,
        next_obs=1000 * rollout.steps.next_obs + 3,
        reward=0.01 * rollout.steps.reward - 40,
    )
    encoders = [make_encoder("mg2l", pooling=pooling) for _ in range(2)]
    for encoder, seen in zip(encoders, (rollout, rescaled), strict=True):
        encoder.fit_normaliser(seen.transition)
    expected = encoders[0].latents(rollout)
    torch.testing.assert_close(encoders[1].latents(rescaled), expected, rtol=1e-2, atol=1e-2)
    assert not torch.allclose(encoders[0].latents(rescaled).local, expected.local, atol=0.1)


@every_variant
def test_initial_weights_tell_contexts_apart(pooling: str, posterior: str) -> None:
    """Small initial gains leave the contrast on its saddle at z = 0."""
    rollout = random_rollout(n_rows=32)
    encoder = make_encoder("mg2l", pooling=pooling, posterior=posterior)
    encoder.fit_normaliser(rollout.transition)
    global_, local = encoder.encode(as_contexts(rollout))
    assert global_.std(0).mean() > 0.01
    assert local.std(0).mean() > 0.01
