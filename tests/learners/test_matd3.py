"""Does MATD3 explore by the clock, step what it should when it should, and see what it should?"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from envs.core import EnvSpec, Refusal
from mg2l_kalei.buffers.steps import Transitions
from mg2l_kalei.learners.deterministic import straight_through
from mg2l_kalei.learners.matd3 import Matd3
from mg2l_kalei.sharing.ensemble import KaleidoscopeEnsemble
from mg2l_kalei.types import Rollout, Step
from tests.small_systems import CONTINUOUS, DISCRETE, at, draw, generator, make_encoder, random_rollout, update
from tests.small_systems import make_learner as make_any


def make_learner(spec: EnvSpec = CONTINUOUS, **settings: Any) -> Matd3:
    learner = make_any(make_encoder("none", spec), spec, kind="matd3", **settings)
    assert isinstance(learner, Matd3)
    return learner


def learn(learner: Matd3, rollout: Rollout, seed: int = 0) -> None:
    update(learner, make_encoder("none", learner.spec), rollout, seed=seed)


# --- exploration ------------------------------------------------------------------------------------------------------


def acts(learner: Matd3, explore: int | None, spec: EnvSpec = CONTINUOUS) -> Tensor:
    """In 2,000 rows that see the same, with ``explore`` environment steps made; None: at its best."""
    obs, latent = torch.zeros(2000, spec.n_agents, spec.obs_dim), torch.zeros(2000, spec.n_agents, 0)
    clock = None if explore is None else at(explore)
    return learner.act(obs, None, latent, None, generator(), explore=clock).action


def test_actions_are_random_until_the_warm_up_is_over_and_noisy_from_then_on() -> None:
    learner = make_learner(warmup_steps=100, exploration_noise=0.1)
    best, random, noisy = (acts(learner, explore).detach() for explore in (None, 99, 100))
    assert (best == best[0]).all()
    assert abs(float(random.mean())) < 0.03 and abs(float(random.std()) - 3**-0.5) < 0.02
    assert abs(float((noisy - best).std()) - 0.1) < 0.01
    assert random.abs().max() <= 1


def test_discrete_actions_are_drawn_from_the_policy_and_now_and_then_from_all() -> None:
    learner = make_learner(DISCRETE, warmup_steps=100, exploration_noise=0.3)
    with torch.no_grad():
        learner.actor_network.body.output.bias[0] = 20.0  # a policy that is sure
    shares = [float((acts(learner, explore, DISCRETE) == 0).float().mean()) for explore in (None, 99, 100)]
    assert shares == pytest.approx([1.0, 1 / 6, 0.7 + 0.3 / 6], abs=0.03)


def test_evaluation_samples_the_policy_alone_where_actions_are_numbered() -> None:
    learner = make_learner(DISCRETE, warmup_steps=100, exploration_noise=0.3)
    with torch.no_grad():
        learner.actor_network.body.output.bias[:2] = 20.0  # these two have all the probability
    obs, latent = torch.zeros(2000, DISCRETE.n_agents, DISCRETE.obs_dim), torch.zeros(2000, DISCRETE.n_agents, 0)
    for env_steps in (50, 1000):
        action = learner.act(obs, None, latent, None, generator(), explore=learner.sampling(env_steps)).action
        assert set(action.unique().tolist()) == {0, 1}
    assert make_learner().sampling(50) is None


def test_padded_actions_are_zero_whatever_the_noise() -> None:
    spec = CONTINUOUS._replace(action_sizes=(2, 1, 2))
    learner = make_learner(spec, warmup_steps=100)
    for explore in (None, 0, 100):
        action = acts(learner, explore, spec)
        assert (action[:, 1, 1] == 0).all() and (explore is None or (action[:, 0, 1] != 0).any())


def test_one_hot_draws_have_the_policys_chances_and_the_gradient_of_the_softmax() -> None:
    log_prob = torch.log(torch.tensor([0.5, 0.3, 0.2, 0.0])).expand(20_000, 4).clone().requires_grad_()
    hard = straight_through(log_prob, generator())
    assert ((hard == 0) | (hard == 1)).all() and (hard.sum(-1) == 1).all()
    torch.testing.assert_close(hard.mean(0).detach(), torch.tensor([0.5, 0.3, 0.2, 0.0]), atol=0.02, rtol=0)
    hard[:, 0].sum().backward()
    assert log_prob.grad is not None
    assert (log_prob.grad[:, 0] >= 0).all() and (log_prob.grad[:, 1:] <= 0).all()
    torch.testing.assert_close(log_prob.grad.sum(-1), torch.zeros(20_000), atol=1e-5, rtol=0)


# --- when what is stepped ---------------------------------------------------------------------------------------------


def batches_of(learner: Matd3, rollout: Rollout) -> list[Transitions]:
    """Those that an update on the rollout learns from."""
    with patch.object(learner, "learn_from", wraps=learner.learn_from) as watched:
        learn(learner, rollout)
    return [call.args[0] for call in watched.call_args_list]


def first_batch() -> Transitions:
    return batches_of(make_learner(), random_rollout())[0]


def weights(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def gradient(network: nn.Module) -> Tensor:
    gradients = [parameter.grad for parameter in network.parameters()]
    return torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])


def test_actors_and_targets_wait_for_their_turn() -> None:
    batch = first_batch()
    learner, moved = make_learner(policy_delay=3), []
    networks = [learner.critic, learner.actor_network, *(learner.targets[name][name] for name in ("actor", "critic"))]
    for _ in range(6):
        before = [weights(network) for network in networks]
        learner.learn_from(batch, generator())
        moved.append([not torch.equal(old, weights(network)) for old, network in zip(before, networks, strict=True)])
    assert moved == [[True, False, False, False], [True, False, False, False], [True] * 4] * 2


def test_one_step_has_all_agents_gradients_and_in_turn_each_has_its_own() -> None:
    batch = first_batch()
    together, alone = make_learner(), []
    together._actor_step(batch, slice(3), generator())
    for agent in range(3):
        learner = make_learner()
        learner._actor_step(batch, slice(agent, agent + 1), generator())
        alone.append(gradient(learner.actor_network))
    torch.testing.assert_close(gradient(together.actor_network), torch.stack(alone).mean(0))
    assert all(parameter.requires_grad for parameter in together.critic.parameters())


@pytest.mark.parametrize("sharing", ["independent", "heads", "hypernet", "low_rank"])
def test_agents_take_no_turns_where_weights_are_their_own(sharing: str) -> None:
    with pytest.raises(Refusal, match=r"expected learner\.actor_steps=together"):
        make_learner(actor_steps="in_turn", sharing=sharing)


@pytest.mark.parametrize(("actor_steps", "n"), [("together", 1), ("in_turn", 3)])
def test_the_actors_target_goes_as_many_times_the_way_as_there_are_steps(actor_steps: str, n: int) -> None:
    learner = make_learner(actor_steps=actor_steps, policy_delay=1, tau=0.1)
    before = {name: weights(targets[name]) for name, targets in learner.targets.items()}
    learner.learn_from(first_batch(), generator())
    for name, times in (("actor", n), ("critic", 1)):
        new, target = weights(learner.networks[name]), weights(learner.targets[name][name])
        torch.testing.assert_close(target, new + 0.9**times * (before[name] - new), atol=1e-6, rtol=0)


def test_as_many_updates_are_made_as_environment_steps_ask_for() -> None:
    """In a rollout of 9 steps in 4 rows; more batches than its 36 steps hold are drawn anew."""
    for rate, n, after_two in ((0.5, 18, 36), (0.1, 3, 7), (1e-6, 0, 0)):
        learner = make_learner(updates_per_step=rate, batch=8)
        for expected in (n, after_two):
            learn(learner, random_rollout())
            assert learner.n_updates == expected


def test_trials_drawn_together_show_each_of_their_steps_once() -> None:
    learner, rollout = make_learner(updates_per_step=0.25, batch=4, encoded_batches=9), random_rollout()
    states = torch.cat([batch.state for batch in batches_of(learner, rollout)])
    assert len(states) == 36 and torch.equal(states.unique(dim=0), rollout.steps.state.flatten(0, 1).unique(dim=0))


# --- ensembles, latents, departures, weights --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "n", "is_masked"),
    [({}, 2, False), ({"critic_sharing": "kaleidoscope"}, 5, True), ({"n_critics": 5}, 5, False)],
)
def test_members_are_twins_or_five_masks_or_as_many_as_are_asked_for(settings: Any, n: int, is_masked: bool) -> None:
    for sharing in ("full", "kaleidoscope"):  # of the actors: whatever it is
        learner = make_learner(sharing=sharing, **settings)
        q = learner.critic(draw(7, 5), torch.zeros(7, 0), draw(7, 3, 2))
        assert q.shape == (7, n, 3)
        assert not torch.equal(q[:, 0], q[:, 1])
        assert isinstance(learner.optimisers["critic"].sharing, KaleidoscopeEnsemble) == is_masked


def test_critics_have_layer_norms_and_actors_have_not_unless_told_otherwise() -> None:
    def n_norms(network: nn.Module) -> int:
        return sum(type(module).__name__ == "GroupedLayerNorm" for module in network.modules())

    assert [n_norms(network) for network in make_learner().networks.values()] == [0, 2]
    without = make_learner(critic_layer_norm=False, layer_norm=True)
    assert [n_norms(network) for network in without.networks.values()] == [2, 0]


def test_actors_see_local_latents_and_critics_the_global_one_and_neither_trains_the_encoder() -> None:
    encoder, rollout = make_encoder("mg2l"), random_rollout()
    learner = make_any(encoder, kind="matd3", updates_per_step=1.0)
    before, given = weights(encoder), dict[str, Tensor]()
    for name, network in learner.networks.items():
        network.register_forward_pre_hook(lambda _, inputs, name=name: given.__setitem__(name, inputs[1]))
    update(learner, encoder, rollout)
    assert given["actor"].shape[-2:] == (3, encoder.local_dim) and given["critic"].shape[-1] == encoder.global_dim
    assert not given["actor"].requires_grad and not given["critic"].requires_grad
    assert torch.equal(before, weights(encoder)) and all(p.grad is None for p in encoder.parameters())


def departed(spec: EnvSpec, **changed: Any) -> list[Tensor]:
    """Networks after an update on noise in which agent 2 leaves in step 1, ``changed`` of what it then saw and did."""
    steps: Step = random_rollout().steps
    alive, next_alive = torch.ones_like(steps.alive), torch.ones_like(steps.alive)
    alive[2:, :, 2] = next_alive[1:, :, 2] = False
    if spec.shared_reward:
        steps.reward[:] = steps.reward[..., :1].clone()
    for name, value in changed.items():
        getattr(steps, name)[(1 if name.startswith("next") else 2) :, :, 2] = value
    learner = make_learner(spec, updates_per_step=1.0)
    learn(learner, random_rollout()._replace(steps=steps._replace(alive=alive, next_alive=next_alive)))
    return [weights(network) for network in learner.networks.values()]


@pytest.mark.parametrize("spec", [CONTINUOUS, CONTINUOUS._replace(shared_reward=True)], ids=["own", "shared"])
def test_what_departed_agents_see_do_and_are_paid_trains_nobody(spec: EnvSpec) -> None:
    usual = departed(spec)
    other = departed(spec, action=0.7, reward=1e30, obs=3.0, next_obs=3.0)
    assert all(map(torch.equal, usual, other))


def test_where_nobody_is_there_nothing_is_learned_and_all_is_finite() -> None:
    rollout = random_rollout()
    nobody = torch.zeros_like(rollout.steps.alive)
    learner = make_learner(updates_per_step=1.0)
    before = [weights(network) for network in learner.networks.values()]
    learn(learner, rollout._replace(steps=rollout.steps._replace(alive=nobody, next_alive=nobody)))
    assert all(map(torch.equal, before, (weights(network) for network in learner.networks.values())))


def test_targets_are_the_networks_where_weights_come_from_another_run() -> None:
    learner, other = make_learner(), make_learner(seed=1)
    learner.load_weights(other.weights())
    for name, network in learner.networks.items():
        assert torch.equal(weights(network), weights(learner.targets[name][name]))
