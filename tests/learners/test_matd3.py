"""Does MATD3 find known optima and known values, explore by the clock, and step what it should when it should?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from envs.core import EnvSpec
from mg2l_kalei.learners.deterministic import straight_through
from mg2l_kalei.learners.matd3 import Matd3
from mg2l_kalei.sharing.ensemble import KaleidoscopeEnsemble
from mg2l_kalei.types import Rollout, Step
from tests.small_systems import CONTINUOUS, DISCRETE, at, draw, generator, make_encoder, random_rollout, update
from tests.small_systems import make_learner as make_any

PAIR = EnvSpec(n_agents=2, obs_dim=1, state_dim=1, action_dim=1, is_discrete=False, episode_steps=1)
TEAM = PAIR._replace(shared_reward=True)
QUICK: dict[str, Any] = {
    "actor_lr": 3e-3,
    "critic_lr": 1e-2,
    "gamma": 0.5,
    "tau": 0.05,
    "updates_per_step": 0.5,
    "batch": 64,
    "activation": "tanh",
}


def make_learner(spec: EnvSpec = CONTINUOUS, **settings: Any) -> Matd3:
    learner = make_any(make_encoder("none", spec), spec, kind="matd3", **settings)
    assert isinstance(learner, Matd3)
    return learner


def learn(learner: Matd3, rollout: Rollout, seed: int = 0) -> None:
    update(learner, make_encoder("none", learner.spec), rollout, seed=seed)


# --- what is learned --------------------------------------------------------------------------------------------------


def game(spec: EnvSpec, paid: Any) -> Rollout:
    """1,024 games of one step: a number in [-1, 1] is seen by both, who act at random; ``paid(seen, a, b)``."""
    rollout = random_rollout(spec, n_steps=1, n_rows=1024)
    seen, actions = (2 * torch.rand(1, 1024, n, generator=generator(n)) - 1 for n in (1, 2))
    reward = torch.stack(paid(seen[..., 0], *actions.unbind(-1)), dim=-1)
    over = torch.ones(1, 1024, dtype=torch.bool)
    steps = rollout.steps._replace(
        obs=seen.unsqueeze(-2).expand(-1, -1, 2, -1),
        state=seen,
        action=actions.unsqueeze(-1),
        reward=reward,
        terminated=over,
        truncated=~over,
    )
    return rollout._replace(steps=steps)


@torch.no_grad()
def answers(learner: Matd3) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers that may be seen, and what each agent does then: (M,)."""
    seen = torch.linspace(-0.8, 0.8, 9)
    obs = seen[:, None, None].expand(-1, 2, -1)
    action = learner.act(obs, None, torch.zeros(9, 2, 0), None, generator(), explore=None).action
    return seen, action[:, 0, 0], action[:, 1, 0]


@pytest.mark.parametrize("critic_sharing", ["independent", "kaleidoscope"])
def test_a_team_finds_the_best_pair_of_actions(critic_sharing: str) -> None:
    """a + b should be what is seen, and a - b be 0.6: neither knows its part without the other's."""
    learner = make_learner(TEAM, critic_sharing=critic_sharing, critic_threshold_bias=3.0, **QUICK)

    def paid(seen: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
        return [-(a + b - seen).square() - (a - b - 0.6).square()] * 2

    learn(learner, game(TEAM, paid))
    seen, a, b = answers(learner)
    assert float((a + b - seen).abs().max()) < 0.15 and float((a - b - 0.6).abs().max()) < 0.15


def test_agents_with_rewards_of_their_own_do_not_act_for_others() -> None:
    """What agent 0 does is worth five times as much to agent 1 as to itself, the other way."""
    learner = make_learner(PAIR, **QUICK)

    def paid(seen: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
        return [-(a - 0.5).square(), -(b + 0.5 * seen).square() - 5 * a]

    learn(learner, game(PAIR, paid))
    seen, a, b = answers(learner)
    assert float((a - 0.5).abs().max()) < 0.15 and float((b + 0.5 * seen).abs().max()) < 0.15


@pytest.mark.parametrize(
    ("ends", "n_step", "worth"),
    [("truncated", 1, 2.0), ("truncated", 3, 2.0), ("terminated", 1, 1.6), ("terminated", 3, 48 / 31)],
)
def test_a_reward_of_one_in_each_step_is_worth_what_it_sums_to(ends: str, n_step: int, worth: float) -> None:
    """Where every step looks alike, and actors do not move: 1 / (1 - gamma) = 2 if time ends episodes of four steps.

    If the task does, v = 1 + (3 / 4) v / 2; by three steps, v is the mean of 1.75 + v / 8, 1.75, 1.5 and 1.
    """
    learner = make_learner(
        **QUICK | {"n_step": n_step, "target_noise": 0.0, "updates_per_step": 2.0, "actor_lr": 1e-12}
    )
    steps = random_rollout(n_steps=8, n_rows=16).steps
    over, never = steps.truncated, torch.zeros_like(steps.truncated)
    alike = {name: torch.zeros_like(getattr(steps, name)) for name in Step._fields if "obs" in name or "state" in name}
    alike |= {"action": torch.zeros_like(steps.action), "reward": torch.ones_like(steps.reward)}
    steps = steps._replace(**alike | {"terminated": never, "truncated": never} | {ends: over})
    learn(learner, random_rollout()._replace(steps=steps, task=torch.zeros(16, dtype=torch.int64)))
    q = learner.critic(steps.state, torch.zeros(8, 16, 0), steps.action)
    assert float(q.detach().mean()) == pytest.approx(worth, abs=0.05)


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


def first_batch(learner: Matd3, rollout: Rollout) -> Any:
    """The first of an update on the rollout."""
    batches: list[Any] = []
    learn_from = learner.learn_from

    def watched(batch: Any, stream: Any) -> Any:
        batches.append(batch)
        return learn_from(batch, stream)

    learner.learn_from = watched  # type: ignore[method-assign]
    learn(learner, rollout)
    learner.learn_from = learn_from  # type: ignore[method-assign]
    return batches[0]


def weights(network: Any) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def gradient(network: Any) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


def test_actors_and_targets_wait_for_their_turn() -> None:
    batch = first_batch(make_learner(), random_rollout())
    learner, moved = make_learner(policy_delay=3), []
    networks = [learner.critic, learner.actor_network, *(learner.targets[name][name] for name in ("actor", "critic"))]
    for _ in range(6):
        before = [weights(network) for network in networks]
        learner.learn_from(batch, generator())
        moved.append([not torch.equal(old, weights(network)) for old, network in zip(before, networks, strict=True)])
    assert moved == [[True, False, False, False], [True, False, False, False], [True] * 4] * 2


def test_one_step_has_all_agents_gradients_and_in_turn_each_has_its_own() -> None:
    batch = first_batch(make_learner(), random_rollout())
    together, alone = make_learner(), []
    together._actor_step(batch, range(3), generator())
    for agent in range(3):
        learner = make_learner()
        learner._actor_step(batch, [agent], generator())
        alone.append(gradient(learner.actor_network))
    torch.testing.assert_close(gradient(together.actor_network), torch.stack(alone).mean(0))
    assert all(parameter.requires_grad for parameter in together.critic.parameters())


@pytest.mark.parametrize(("actor_steps", "n"), [("together", 1), ("in_turn", 3)])
def test_the_actors_target_goes_as_many_times_the_way_as_there_are_steps(actor_steps: str, n: int) -> None:
    learner = make_learner(actor_steps=actor_steps, policy_delay=1, tau=0.1)
    batch = first_batch(make_learner(), random_rollout())
    for name in ("actor", "critic"):
        before = weights(learner.targets[name][name])
        if name == "actor":
            learner.learn_from(batch, generator())
            new, target = weights(learner.actor_network), weights(learner.targets[name][name])
            torch.testing.assert_close(target, new + 0.9**n * (before - new), atol=1e-6, rtol=0)


def test_as_many_updates_are_made_as_environment_steps_ask_for() -> None:
    """In a rollout of 9 steps in 4 rows; more batches than its 36 steps hold are drawn anew."""
    for rate, n in ((0.5, 18), (0.1, 4), (1e-6, 1)):
        learner = make_learner(updates_per_step=rate, batch=8)
        learn(learner, random_rollout())
        assert learner.n_updates == n


def test_an_epoch_shows_every_step_of_the_trials_once() -> None:
    learner, seen = make_learner(updates_per_step=0.25, batch=4, encoded_batches=9), []
    learn_from = learner.learn_from

    def watched(batch: Any, stream: Any) -> Any:
        seen.append(batch.state)
        return learn_from(batch, stream)

    learner.learn_from = watched  # type: ignore[method-assign]
    rollout = random_rollout()
    learn(learner, rollout)
    states = torch.cat(seen)
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
    def n_norms(network: Any) -> int:
        return sum(type(module).__name__ == "GroupedLayerNorm" for module in network.modules())

    assert [n_norms(network) for network in make_learner().networks.values()] == [0, 2]
    without = make_learner(critic_layer_norm=False, layer_norm=True)
    assert [n_norms(network) for network in without.networks.values()] == [2, 0]


def test_actors_see_local_latents_and_critics_the_global_one_and_neither_trains_the_encoder() -> None:
    encoder, rollout = make_encoder("mg2l"), random_rollout()
    learner = make_any(encoder, kind="matd3", updates_per_step=1.0)
    before, given = weights(encoder), {}
    for name, network in learner.networks.items():
        network.register_forward_pre_hook(lambda _, inputs, name=name: given.__setitem__(name, inputs[1]))
    update(learner, encoder, rollout)
    assert given["actor"].shape[-2:] == (3, encoder.local_dim) and given["critic"].shape[-1] == encoder.global_dim
    assert not given["actor"].requires_grad and not given["critic"].requires_grad
    assert torch.equal(before, weights(encoder)) and all(p.grad is None for p in encoder.parameters())


def departed(**changed: Any) -> list[Tensor]:
    """Networks after an update on noise in which agent 2 leaves in step 1, ``changed`` of what it then saw and did."""
    steps: Step = random_rollout().steps
    alive = torch.ones_like(steps.alive)
    alive[2:, :, 2] = False
    next_alive = torch.ones_like(alive)
    next_alive[1:, :, 2] = False
    for name, value in changed.items():
        field = getattr(steps, name)
        field[(1 if name.startswith("next") else 2) :, :, 2] = value
    learner = make_learner(updates_per_step=1.0)
    learn(learner, random_rollout()._replace(steps=steps._replace(alive=alive, next_alive=next_alive)))
    return [weights(network) for network in learner.networks.values()]


def test_what_departed_agents_see_do_and_are_paid_trains_nobody() -> None:
    usual = departed()
    other = departed(action=0.7, reward=1e30, obs=3.0, next_obs=3.0)
    assert all(map(torch.equal, usual, other))


def test_targets_are_the_networks_where_weights_come_from_another_run() -> None:
    learner, other = make_learner(), make_learner(seed=1)
    learner.load_weights(other.weights())
    for name, network in learner.networks.items():
        assert torch.equal(weights(network), weights(learner.targets[name][name]))
