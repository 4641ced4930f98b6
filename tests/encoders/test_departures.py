"""Does inference take no notice of agents that have left, whatever stands in their entries?"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from envs.core import EnvSpec
from mg2l_kalei.config.settings import rules
from mg2l_kalei.encoders.mg2l import Mg2lConfig, Mg2lEncoder
from mg2l_kalei.encoders.transitions import LastLayer
from mg2l_kalei.types import Rollout, TaskLatent, Transition
from tests.small_systems import (
    DISCRETE,
    SPECS,
    as_contexts,
    generator,
    make_encoder,
    random_rollout,
    with_steps,
)

OF_AGENTS = ("obs", "action", "reward", "next_obs")  # what stands in a transition for each agent
every_pooling = pytest.mark.parametrize("pooling", rules(Mg2lConfig)["pooling"].choices or ())
every_order = pytest.mark.parametrize("second_order", [False, True], ids=["first order", "second order"])


def with_departures(rollout: Rollout) -> Rollout:
    """Agents leave and come back within episodes, and one is never there."""
    alive = torch.ones_like(rollout.steps.alive)
    alive[2:4, 0, 0] = alive[:3, 1, 1] = alive[5:, 1, 2] = alive[1::2, 2, 2] = False
    alive[:, 3, 0] = False
    return with_steps(rollout, alive=alive)


def departed_drew(rollout: Rollout, value: float) -> Rollout:
    """The rollout in which all that departed agents saw, did and were paid is ``value``."""
    gone = ~rollout.steps.alive
    fields = {name: getattr(rollout.steps, name).clone() for name in OF_AGENTS}
    for field in fields.values():
        field[gone] = value
    return with_steps(rollout, **fields)


def mg2l(rollout: Rollout, **settings: Any) -> Mg2lEncoder:
    encoder = make_encoder("mg2l", **settings)
    assert isinstance(encoder, Mg2lEncoder)
    encoder.fit_normaliser(rollout.transition)
    return encoder


def streamed(encoder: Mg2lEncoder, rollout: Rollout) -> TaskLatent:
    """Latents before each step and after the last, one transition at a time."""
    belief = encoder.prior(rollout.task)
    latents = [encoder.latent(belief)]
    for t in range(len(rollout.steps.reward)):
        belief = encoder.observe(belief, Transition(*(field[t] for field in rollout.transition)))
        latents.append(encoder.latent(belief))
    return TaskLatent(*(torch.stack(part) for part in zip(*latents, strict=True)))


@every_order
@every_pooling
def test_streaming_equals_batch(pooling: str, second_order: bool) -> None:
    rollout = with_departures(random_rollout())
    encoder = mg2l(rollout, pooling=pooling, second_order=second_order)
    batch, whole = encoder.latents(rollout), encoder.encode(as_contexts(rollout))
    torch.testing.assert_close(streamed(encoder, rollout), batch, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(whole, TaskLatent(batch.global_[-1], batch.local[-1]), rtol=1e-5, atol=1e-5)
    there = with_steps(rollout, alive=torch.ones_like(rollout.steps.alive))
    assert not torch.allclose(encoder.latents(there).local, batch.local, atol=1e-3)


def all_that_comes_of(rollout: Rollout, **settings: Any) -> dict[str, Tensor]:
    """Latents, streamed and at once; the loss, its gradient and its metrics; and the encoder's state after it."""
    encoder = mg2l(rollout, **settings)
    outcome = {f"latents {i}": part.detach() for i, part in enumerate(encoder.latents(rollout))}
    outcome |= {f"streamed {i}": part.detach() for i, part in enumerate(streamed(encoder, rollout))}
    loss, metrics = encoder.loss(as_contexts(rollout), generator())
    loss.backward()
    outcome |= {f"gradient of {name}": p.grad for name, p in encoder.named_parameters() if p.grad is not None}
    return outcome | {name: torch.as_tensor(value) for name, value in metrics.items()} | dict(encoder.state_dict())


@pytest.mark.parametrize("value", [1e30, math.inf, math.nan])
@every_order
@every_pooling
def test_what_departed_agents_drew_may_be_anything(pooling: str, second_order: bool, value: float) -> None:
    settings: dict[str, Any] = {"pooling": pooling, "second_order": second_order, "prediction_coef": 1.0}
    rollout = with_departures(random_rollout())
    usual, other = (all_that_comes_of(r, **settings) for r in (rollout, departed_drew(rollout, value)))
    assert any(name.startswith("gradient of predictor") for name in usual)
    for name, tensor in usual.items():
        assert torch.equal(tensor, other[name]), name
        assert tensor.isfinite().all(), name


def test_what_those_who_stay_drew_matters() -> None:
    """Or the test above could not fail."""
    rollout = with_departures(random_rollout())
    reward = torch.where(rollout.steps.alive, rollout.steps.reward.exp(), rollout.steps.reward)
    usual, other = (all_that_comes_of(r) for r in (rollout, with_steps(rollout, reward=reward)))
    assert not torch.equal(usual["encoder/loss"], other["encoder/loss"])
    assert not torch.equal(usual["transition_encoder.moments.mean"], other["transition_encoder.moments.mean"])


def test_the_input_statistics_are_of_those_who_lived_through_it() -> None:
    rollout = departed_drew(with_departures(random_rollout()), 1e6)
    steps, moments = rollout.steps, mg2l(rollout).transition_encoder.moments
    raw = torch.cat([steps.obs, steps.action, steps.next_obs, steps.reward[..., None]], dim=-1)[steps.alive].double()
    torch.testing.assert_close(moments.mean, raw.mean(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(moments.var, raw.var(0, correction=0), rtol=1e-6, atol=1e-6)
    assert moments.count.unique().tolist() == [int(steps.alive.sum())]


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_an_agent_that_comes_back_has_no_step_before(spec: EnvSpec) -> None:
    """What stands there is not what it saw and did."""
    encoder = make_encoder("mg2l", spec, second_order=True)
    assert isinstance(encoder, Mg2lEncoder)
    before, now = (Transition(*(field[0] for field in random_rollout(spec, seed=seed).transition)) for seed in (0, 1))
    now = now._replace(episode_start=torch.zeros_like(now.episode_start))
    before.alive[:, 1] = False
    embed = encoder.transition_encoder.after
    differs = (embed(before, now) != embed(None, now)).any(-1)
    assert differs[:, [0, 2]].all() and not differs[:, 1].any()


def test_the_reward_error_is_the_mean_over_those_who_were_paid() -> None:
    rollout = with_departures(random_rollout())
    encoder = mg2l(rollout).transition_encoder
    contexts = as_contexts(departed_drew(rollout, 1e6))
    _, error = encoder.with_reward_error(contexts)
    assert isinstance(encoder.last, LastLayer)
    inputs = encoder._inputs(contexts.transition, None)
    predicted = encoder.last.reward_heads(encoder.body(inputs[..., :-1]))
    own = predicted.gather(-1, contexts.task.view(1, -1, 1, 1).expand(*predicted.shape[:-1], 1)).squeeze(-1)
    torch.testing.assert_close(error, (own - inputs[..., -1])[rollout.steps.alive].square().mean())


def test_discrete_actions_of_departed_agents_do_not_matter_either() -> None:
    rollout = with_departures(random_rollout(DISCRETE))
    action = torch.where(rollout.steps.alive, rollout.steps.action, (rollout.steps.action + 1) % DISCRETE.action_dim)
    encoder = make_encoder("mg2l", DISCRETE, second_order=True)
    usual, other = encoder.latents(rollout), encoder.latents(with_steps(rollout, action=action))
    assert torch.equal(usual.local, other.local) and torch.equal(usual.global_, other.global_)
