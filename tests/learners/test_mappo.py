"""Does MAPPO do what its papers say: first ratio 1, proper time limits, and gradients where they belong?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from envs.core import EnvSpec
from mg2l_kalei.buffers.contexts import ContextConfig, ContextSampler
from mg2l_kalei.buffers.trials import ReplayConfig, TrialReplay
from mg2l_kalei.encoders import ENCODERS
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.learners.critic import Critic
from mg2l_kalei.learners.mappo import Mappo
from mg2l_kalei.losses.policy_gradient import Values, generalized_advantages
from mg2l_kalei.networks import Memory, NetworkConfig
from mg2l_kalei.sharing import SHARINGS
from mg2l_kalei.sharing.kaleidoscope import KaleidoscopeConfig
from mg2l_kalei.training.task_inference import InferenceTrainer
from mg2l_kalei.types import Transition
from tests.small_systems import (
    CONTINUOUS,
    SPECS,
    acted_by,
    as_contexts,
    draw,
    generator,
    make_encoder,
    make_learner,
    random_rollout,
    update,
    with_steps,
)

GAMMA = 0.8


def mappo(encoder: TaskEncoder, spec: EnvSpec = CONTINUOUS, **settings: Any) -> Mappo:
    learner = make_learner(encoder, spec, kind="mappo", **settings)
    assert isinstance(learner, Mappo)
    return learner


def moved(encoder: TaskEncoder, before: dict[str, Tensor]) -> set[str]:
    """Names of the encoder's parameters that are not what they were."""
    return {name for name, parameter in encoder.named_parameters() if not torch.equal(parameter, before[name])}


def copied(encoder: TaskEncoder) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in encoder.named_parameters()}


# --- actors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("kind", ENCODERS)
def test_the_first_ratio_is_one(kind: str, sharing: str, spec: EnvSpec) -> None:
    """Also in later updates, and where the encoder has changed between acting and learning."""
    encoder = make_encoder(kind, spec)
    learner = mappo(encoder, spec, sharing=sharing, actor_lr=1e-2)
    for i in range(3):
        rollout = acted_by(learner, encoder, random_rollout(spec, seed=i))
        if encoder.learns:
            encoder.fit_normaliser(rollout.transition)
            with torch.no_grad():
                for parameter in encoder.parameters():
                    parameter.add_(0.1 * draw(*parameter.shape))
        metrics = update(learner, encoder, rollout, 36 * (i + 1), seed=i)
        assert float(metrics["train/first_ratio_error"]) <= 1e-5
        assert float(metrics["train/ratio_error"]) > 1e-4  # later passes do move away


def test_a_ratio_of_another_latent_would_show() -> None:
    encoder = make_encoder("mg2l")
    learner = mappo(encoder)
    rollout = acted_by(learner, encoder, random_rollout())
    metrics = update(learner, encoder, rollout._replace(latent=rollout.latent + 1))
    assert float(metrics["train/first_ratio_error"]) > 1e-4


def test_kaleidoscopes_thresholds_learn_in_spite_of_their_tiny_gradients() -> None:
    encoder, rollout = make_encoder("none"), random_rollout(n_rows=8)
    learner = mappo(encoder, sharing="kaleidoscope", actor_lr=1e-3, lr_decay="none", n_epochs=10)
    thresholds = [p for name, p in learner.actor_network.named_parameters() if "thresholds" in name]
    before = torch.cat([p.detach().flatten().clone() for p in thresholds])
    update(learner, encoder, acted_by(learner, encoder, rollout), 72)
    n_steps = learner.config.n_epochs * learner.config.n_minibatches
    way = (torch.cat([p.detach().flatten() for p in thresholds]) - before).abs()
    assert way.median() > 0.05 * n_steps * 1e-3


# --- critic -----------------------------------------------------------------------------------------------------------


def learnt_value(reward: Tensor, ends: str, **settings: Any) -> Tensor:
    """What the critic comes to say (N,) of an environment in one state that pays each agent ``reward`` (N,) a step.

    It never ends, but is watched for 6 steps at a time; ``ends`` says what the last of them is taken for.
    """
    encoder, rollout = make_encoder("none"), random_rollout(n_steps=6, n_rows=8)
    fast: dict[str, Any] = {"critic_lr": 2e-2, "lr_decay": "none", "n_epochs": 5, "n_minibatches": 1}
    learner = mappo(encoder, gamma=GAMMA, **fast, **settings)
    last = (torch.arange(6) == 5).unsqueeze(-1).expand(6, 8)
    rollout = with_steps(
        rollout,
        state=torch.ones_like(rollout.steps.state),
        next_state=torch.ones_like(rollout.steps.state),
        reward=reward.expand(6, 8, CONTINUOUS.n_agents),
        terminated=last & (ends == "terminated"),
        truncated=last & (ends == "truncated"),
    )
    rollout = acted_by(learner, encoder, rollout)
    for i in range(20):
        update(learner, encoder, rollout, 0, seed=i)
    with torch.no_grad():
        value, _ = learner.critic(rollout.steps.state[0, :1], torch.zeros(1, 0))
    return learner.critic.moments.denormalise(value).flatten()


@pytest.mark.parametrize("scale", ["team", "agent"])
@pytest.mark.parametrize("per_agent", [False, True], ids=["one critic", "critic per agent"])
def test_the_value_of_an_endless_reward_is_that_of_the_geometric_series(per_agent: bool, scale: str) -> None:
    reward = torch.tensor([1.0, 2.0, -1.0])
    value = learnt_value(reward, "truncated", critic_per_agent=per_agent, reward_scale=scale)
    torch.testing.assert_close(value, reward / (1 - GAMMA), rtol=0.03, atol=0.1)


def test_the_value_is_wrong_where_running_out_of_time_is_taken_for_the_end() -> None:
    """It is then that of one to six steps, all alike to see."""
    value = learnt_value(torch.ones(3), "terminated")
    of_six = sum(1 - GAMMA**k for k in range(1, 7)) / 6 / (1 - GAMMA)
    torch.testing.assert_close(value, torch.full((3,), of_six), rtol=0.05, atol=0)
    assert of_six < 0.6 / (1 - GAMMA)


@pytest.mark.parametrize("per_agent", [False, True], ids=["one critic", "critic per agent"])
def test_values_in_units_of_reward_stay_when_the_scale_of_returns_changes(per_agent: bool) -> None:
    critic = Critic(CONTINUOUS, 2, NetworkConfig(hidden=(8,)), generator(), per_agent=per_agent)
    state, latent = draw(5, CONTINUOUS.state_dim), draw(5, 2, seed=1)
    untrained, _ = critic(state, latent)
    alive = torch.ones(50, 4, 3, dtype=torch.bool)
    critic.fit_returns(draw(50, 4, 3), alive)
    assert torch.equal(critic(state, latent)[0], untrained)  # the first returns only say where values begin
    before = critic.moments.denormalise(untrained)
    for scale in (100.0, 0.1):
        critic.fit_returns(scale * draw(50, 4, 3) - 30, alive)
        normalised, _ = critic(state, latent)
        torch.testing.assert_close(critic.moments.denormalise(normalised), before, rtol=1e-4, atol=1e-3)
        assert not torch.allclose(normalised, before, atol=0.1)


def test_value_clipping_leaves_the_first_iteration_its_gradient() -> None:
    """The first returns move the scale of values, and not the outputs that they are clipped around."""
    encoder, losses = make_encoder("none", CONTINUOUS), []
    for value_clipping in (False, True):
        learner = mappo(encoder, value_clipping=value_clipping, n_epochs=1, n_minibatches=1)
        rollout = acted_by(learner, encoder, random_rollout())
        metrics = update(learner, encoder, with_steps(rollout, reward=rollout.steps.reward - 50), 0)
        losses.append([float(metrics[f"train/{name}"]) for name in ("value_loss", "critic_grad_norm")])
    assert losses[0] == losses[1]


def test_each_agents_own_critic_keeps_its_gradient_to_itself() -> None:
    shared, separate = (
        Critic(CONTINUOUS, 2, NetworkConfig(hidden=(8,)), generator(), per_agent=per_agent)
        for per_agent in (False, True)
    )
    state, latent = draw(5, CONTINUOUS.state_dim), draw(5, 2, seed=1)
    for critic in (shared, separate):
        value, _ = critic(state, latent)
        assert value.shape == (5, CONTINUOUS.n_agents)
        (value[:, 1] * draw(5)).sum().backward()
    for parameter in separate.parameters():
        assert parameter.grad is not None
        assert (parameter.grad[1] != 0).any() and (parameter.grad[[0, 2]] == 0).all()
    assert sum(p.numel() for p in separate.parameters()) > 2 * sum(p.numel() for p in shared.parameters())


# --- the encoder ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [False, True], ids=["own history", "held contexts"])
def test_the_value_loss_trains_what_the_global_latent_comes_from_and_nothing_else(held: bool) -> None:
    encoder = make_encoder("mg2l")
    learner, before = mappo(encoder), copied(encoder)
    rollout = random_rollout()
    rollout = rollout._replace(contexts=as_contexts(random_rollout(seed=5))) if held else rollout
    update(learner, encoder, acted_by(learner, encoder, rollout))
    trained = {id(parameter) for parameter in encoder.critic_parameters()}
    assert moved(encoder, before) == {name for name, p in encoder.named_parameters() if id(p) in trained}


def test_the_actors_loss_does_not_reach_the_encoder() -> None:
    """Without the value loss nothing of it moves; with it, it moves the same whatever the actor's loss is."""
    encoder = make_encoder("mg2l")
    learner, before = mappo(encoder, encoder_epochs=0), copied(encoder)
    update(learner, encoder, acted_by(learner, encoder, random_rollout()))
    assert moved(encoder, before) == set()
    after = []
    for shift in (0.0, 0.1):
        encoder = make_encoder("mg2l")
        learner = mappo(encoder)
        rollout = acted_by(learner, encoder, random_rollout())
        assert rollout.log_prob is not None and not rollout.latent.requires_grad
        update(learner, encoder, rollout._replace(log_prob=rollout.log_prob + shift))
        after.append((copied(encoder), torch.cat([p.detach().flatten() for p in learner.actor_network.parameters()])))
    assert all(torch.equal(after[0][0][name], after[1][0][name]) for name in before)
    assert not torch.equal(after[0][1], after[1][1])


@pytest.mark.parametrize(("scale", "kl"), [("team", 0.0), ("agent", 0.0), ("team", 0.5)])
@pytest.mark.parametrize("recurrent", [False, True], ids=["feed-forward", "recurrent"])
def test_the_encoders_gradient_is_that_of_the_value_loss(recurrent: bool, scale: str, kl: float) -> None:
    """Gathered from minibatches and taken through the encoder once: exactly that of the whole rollout at once."""
    encoder, reference = (make_encoder("mg2l", critic_kl_coef=kl) for _ in range(2))
    settings: dict[str, Any] = {
        "n_epochs": 1,
        "value_clipping": False,
        "huber_delta": 1e3,
        "max_grad_norm": 1e9,
        "critic_lr": 1e-12,
        "memory": "episode" if recurrent else "none",
        "chunk_length": 9,  # the whole trial: no gradient is cut off
        "reward_scale": scale,
    }
    learner, fresh = mappo(encoder, n_minibatches=2, **settings), mappo(reference, **settings)
    rollout = acted_by(learner, encoder, random_rollout())
    update(learner, encoder, rollout)
    latent = reference.latents(rollout).global_
    start = Memory(torch.zeros(4, 1, 16), rollout.steps.episode_start) if recurrent else None
    value, _ = fresh.critic(rollout.steps.state, latent[:-1], start)
    with torch.no_grad():
        _, next_value, _ = fresh._values(rollout.steps, latent)
        returns = value + generalized_advantages(
            rollout.steps.reward,
            Values(value, next_value),
            rollout.steps.terminated,
            rollout.steps.truncated,
            gamma=learner.config.gamma,
            gae_lambda=learner.config.gae_lambda,
        )
    over = (0, 1) if scale == "agent" else (0, 1, 2)  # the first returns rescale nothing
    error = value - (returns - returns.mean(over)) / returns.std(over, correction=0)
    cost = reference.learned_latents(rollout, generator())[1]
    (2 * (0.5 * error.square().mean() + cost)).backward()  # each of two minibatches gives a mean of its own
    for ours, whole in zip(encoder.critic_parameters(), reference.critic_parameters(), strict=True):
        assert ours.grad is not None and whole.grad is not None
        torch.testing.assert_close(ours.grad, whole.grad, rtol=1e-3, atol=1e-6)


def test_the_encoders_own_optimiser_is_not_fed_what_the_critic_left_behind() -> None:
    results = []
    for stale in (None, 1e3):
        encoder, rollout = make_encoder("mg2l"), random_rollout()
        config = ContextConfig(batch=4, length=3, n_early_updates=1)
        replay = TrialReplay(ReplayConfig(capacity=4), CONTINUOUS, 9, Transition._fields, torch.device("cpu"))
        trainer = InferenceTrainer(encoder, ContextSampler(config, replay), generator())
        encoder.fit_normaliser(rollout.transition)
        replay.add(rollout.steps, rollout.task)
        for parameter in encoder.parameters():
            parameter.grad = None if stale is None else torch.full_like(parameter, stale)
        trainer.update(0)
        results.append(copied(encoder))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


# --- learning rates ---------------------------------------------------------------------------------------------------


def rates(decay: str, env_steps: list[int]) -> list[set[float]]:
    """Learning rates of all parameter groups at updates after so many steps, in units of the initial ones."""
    encoder = make_encoder("mg2l")
    learner = mappo(encoder, sharing="kaleidoscope", lr_decay=decay, actor_lr=1e-3, critic_lr=1e-3, n_epochs=1)
    rollout, seen = random_rollout(), []
    initial = [rate for optimiser in learner.optimisers.values() for rate in optimiser.rates]
    assert set(initial) == {1e-3, KaleidoscopeConfig().threshold_lr, 2e-4}  # 2e-4: the encoder's, at two critic steps
    for steps in env_steps:
        update(learner, encoder, acted_by(learner, encoder, rollout), steps)
        groups = [group for optimiser in learner.optimisers.values() for group in optimiser.adam.param_groups]
        seen.append({round(group["lr"] / rate, 9) for group, rate in zip(groups, initial, strict=True)})
    return seen


def test_learning_rates_fall_in_a_line_to_almost_nothing_and_never_below() -> None:
    (early,), (half,), (end,), (beyond,) = rates("linear", [100, 5_000, 10_000, 20_000])
    assert 0.95 < early <= 1.0
    assert half == pytest.approx(0.5, abs=0.05)
    assert 0 < end < 0.05
    assert beyond == 0


def test_learning_rates_can_be_kept() -> None:
    assert rates("none", [100, 10_000, 20_000]) == [{1.0}] * 3
