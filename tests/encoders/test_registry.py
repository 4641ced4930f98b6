"""What every task encoder owes: looped over the registry, so a new encoder is tested by existing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from envs.core import EnvSpec
from mg2l_kalei.encoders import ENCODERS
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.types import Rollout, TaskLatent, Transition
from tests.small_systems import CONTINUOUS, FEATURES, SPECS, as_contexts, draw, generator, make_encoder, random_rollout


def stepped(encoder: TaskEncoder, rollout: Rollout) -> TaskLatent:
    """Latents before each step and after the last, one transition at a time."""
    belief = encoder.prior(rollout.task)
    latents = [encoder.latent(belief)]
    for t in range(len(rollout.steps.reward)):
        belief = encoder.observe(belief, Transition(*(field[t] for field in rollout.transition)))
        latents.append(encoder.latent(belief))
    return TaskLatent(*(torch.stack(part) for part in zip(*latents, strict=True)))


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("kind", ENCODERS)
def test_streaming_equals_batch_at_every_prefix(kind: str, spec: EnvSpec) -> None:
    encoder, rollout = make_encoder(kind, spec), random_rollout(spec)
    encoder.fit_normaliser(rollout.transition)
    T, B, N = rollout.steps.reward.shape
    streamed, batch = stepped(encoder, rollout), encoder.latents(rollout)
    assert batch.global_.shape == (T + 1, B, encoder.global_dim)
    assert batch.local.shape == (T + 1, B, N, encoder.local_dim)
    torch.testing.assert_close(streamed, batch, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ENCODERS)
def test_initial_weights_come_from_the_given_generator_alone(kind: str) -> None:
    first, again, other = (dict(make_encoder(kind, seed=seed).state_dict()) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(torch.equal(first[name], other[name]) for name in first) != make_encoder(kind).learns


@pytest.mark.parametrize("kind", ENCODERS)
def test_what_the_critic_trains_is_what_the_global_latent_depends_on(kind: str) -> None:
    encoder, rollout = make_encoder(kind), random_rollout()
    global_ = encoder.latents(rollout).global_
    if global_.requires_grad:
        (global_ * draw(*global_.shape)).sum().backward()
    reached = {id(p) for p in encoder.parameters() if p.grad is not None and (p.grad != 0).any()}
    assert reached == {id(parameter) for parameter in encoder.critic_parameters()}
    assert bool(reached) == encoder.learns


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_that_learns_has_a_loss_and_another_says_that_it_has_none(kind: str) -> None:
    encoder, contexts = make_encoder(kind), as_contexts(random_rollout(n_rows=6))
    if not encoder.learns:
        with pytest.raises(NotImplementedError, match=type(encoder).__name__):
            encoder.loss(contexts, generator())
        with pytest.raises(NotImplementedError, match=type(encoder).__name__):
            encoder.encode(contexts)
        return
    loss, metrics = encoder.loss(contexts, generator())
    loss.backward()
    assert loss.shape == () and encoder.learning_rate(early=True) > 0
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    assert all(name.startswith("encoder/") and torch.as_tensor(value).isfinite() for name, value in metrics.items())


def test_none_says_nothing() -> None:
    encoder, rollout = make_encoder("none"), random_rollout()
    assert encoder.global_dim == encoder.local_dim == 0
    assert stepped(encoder, rollout).local.shape == (10, 4, 3, 0)


def test_the_oracle_gives_everyone_the_tasks_features_at_all_times() -> None:
    encoder, rollout = make_encoder("oracle"), random_rollout()
    expected: Tensor = FEATURES[rollout.task]
    for latents in (encoder.latents(rollout), stepped(encoder, rollout)):
        for t in range(len(rollout.steps.reward) + 1):
            assert torch.equal(latents.global_[t], expected)
            assert all(torch.equal(latents.local[t, :, n], expected) for n in range(CONTINUOUS.n_agents))
