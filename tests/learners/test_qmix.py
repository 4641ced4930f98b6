"""Does QMIX learn the values that theory says, and look at nothing that it should not?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from envs.core import EnvSpec
from mg2l_kalei.acting.collector import Team
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.learners.qmix import Qmix
from mg2l_kalei.learners.replayed import Trials
from mg2l_kalei.networks import GroupedMlp
from mg2l_kalei.types import Clock, Rollout
from tests.small_systems import (
    DISCRETE,
    acted_by,
    draw,
    generator,
    make_encoder,
    make_learner,
    random_rollout,
    update,
    with_steps,
)

GAMMA = 0.8


def qmix(encoder: TaskEncoder, spec: EnvSpec = DISCRETE, **settings: Any) -> Qmix:
    learner = make_learner(encoder, spec, kind="qmix", **settings)
    assert isinstance(learner, Qmix)
    return learner


def trials_of(encoder: TaskEncoder, rollout: Rollout) -> Trials:
    with torch.no_grad():
        return Trials(rollout.steps, encoder.latents(rollout))


def values(learner: Qmix, trials: Trials) -> Tensor:
    """Each agent's value of each action, (T, B, N, A)."""
    with torch.no_grad():
        return learner.unrolled(learner.agents.body, learner.views(trials.steps, trials.latent))[0]


def team_values(learner: Qmix, trials: Trials) -> Tensor:
    """The team's value of what it did, (T, B)."""
    chosen = values(learner, trials).gather(-1, trials.steps.action.unsqueeze(-1)).squeeze(-1)
    with torch.no_grad():
        value: Tensor = learner.team.body(chosen, learner.team.seen(trials.steps.state, trials.latent.global_[:-1]))
    return value


# --- games whose values are known -------------------------------------------------------------------------------------

FAST: dict[str, Any] = {
    "lr": 1e-2,
    "target_update": 0.1,
    "gamma": GAMMA,
    "standardise_rewards": False,
    "mixer_width": 16,
    "hypernet_width": 16,
}


def two_states(n_rows: int = 64, n_steps: int = 6) -> Rollout:
    """Two agents, each in a state of its own. Action 0 stays, 1 switches; staying in state 1 pays 1, else nothing."""
    spec, stream = TWO_STATES, generator()
    state = torch.randint(2, (n_rows, 2), generator=stream)
    rollout = random_rollout(spec, n_steps, n_rows)
    states, action = [state], rollout.steps.action
    for now in action:
        states.append((states[-1] + now) % 2)
    one_hot = torch.nn.functional.one_hot(torch.stack(states), 2).float()  # (T + 1, B, N, 2)
    return with_steps(
        rollout,
        obs=one_hot[:-1],
        next_obs=one_hot[1:],
        state=one_hot[:-1].flatten(2),
        next_state=one_hot[1:].flatten(2),
        reward=((one_hot[:-1, ..., 1] == 1) & (action == 0)).float(),
        truncated=torch.zeros_like(rollout.steps.truncated),
    )


TWO_STATES = EnvSpec(n_agents=2, obs_dim=2, state_dim=4, action_dim=2, is_discrete=True, episode_steps=6)
STAYING = 1 / (1 - GAMMA)
KNOWN = torch.tensor([[GAMMA**2 * STAYING, GAMMA * STAYING], [STAYING, GAMMA**2 * STAYING]])  # by state and action


@pytest.mark.parametrize("td_lambda", [0.0, 0.3])
@pytest.mark.parametrize("mixer", ["vdn", "qmix"])
def test_values_of_a_game_of_two_states_are_the_known_ones(mixer: str, td_lambda: float) -> None:
    """One step ahead; further ahead, values of playing at random come in, which are less, and the best stays best."""
    encoder, rollout = make_encoder("none", TWO_STATES), two_states()
    learner, trials = qmix(encoder, TWO_STATES, mixer=mixer, td_lambda=td_lambda, **FAST), trials_of(encoder, rollout)
    for _ in range(400):
        learner.learn(trials)
    each = KNOWN[trials.steps.obs[..., 1].long(), trials.steps.action]  # (T, B, N)
    found, known = team_values(learner, trials), each.mean(-1)
    if td_lambda == 0:
        torch.testing.assert_close(found, known, rtol=0, atol=0.15)
    assert (found < known + 0.15).all()
    assert torch.equal(values(learner, trials).argmax(-1) == 0, trials.steps.obs[..., 1] == 1)


@pytest.mark.parametrize("memory", ["none", "episode"])
@pytest.mark.parametrize("time_limits", ["bootstrap", "terminal"])
def test_an_endless_reward_is_worth_the_geometric_series_unless_time_limits_end_it(
    time_limits: str, memory: str
) -> None:
    """Whose time runs out each 4 steps, and the trial, within the third episode, after 10."""
    spec = DISCRETE._replace(n_agents=1, action_dim=2)
    encoder = make_encoder("none", spec)
    rollout = random_rollout(spec, n_steps=10, n_rows=32)
    ones = {name: torch.ones_like(getattr(rollout.steps, name)) for name in ("obs", "next_obs", "state", "next_state")}
    rollout = with_steps(rollout, reward=torch.ones_like(rollout.steps.reward), **ones)
    learner = qmix(encoder, spec, time_limits=time_limits, memory=memory, **FAST)
    trials = trials_of(encoder, rollout)
    for _ in range(300):
        learner.learn(trials)
    found = float(team_values(learner, trials).mean())
    endless = 1 / (1 - GAMMA)
    if time_limits == "bootstrap":
        assert found == pytest.approx(endless, abs=0.1)
    else:
        assert found < 0.7 * endless


MATRIX = EnvSpec(n_agents=2, obs_dim=1, state_dim=1, action_dim=3, is_discrete=True, episode_steps=1)
SUM = torch.tensor([[0.0, 1.0, 3.0], [1.0, 2.0, 4.0], [2.0, 3.0, 5.0]])
PRODUCT = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 2.0], [0.0, 2.0, 4.0]])
PENALTY = torch.tensor([[8.0, -12.0, -12.0], [-12.0, 0.0, 0.0], [-12.0, 0.0, 0.0]])  # arXiv 1905.05408


def played(payoff: Tensor, mixer: str) -> tuple[float, float]:
    """The greatest error of the team's values, all pairs of actions played alike often, and what the best ones pay."""
    encoder = make_encoder("none", MATRIX)
    first, second = (x.flatten() for x in torch.meshgrid(torch.arange(3), torch.arange(3), indexing="ij"))
    rollout = random_rollout(MATRIX, 1, 9)
    ones = {name: torch.ones_like(getattr(rollout.steps, name)) for name in ("obs", "next_obs", "state", "next_state")}
    rollout = with_steps(
        rollout,
        action=torch.stack([first, second], dim=-1)[None],
        reward=payoff.flatten()[None, :, None].expand(1, 9, 2),
        terminated=torch.ones(1, 9, dtype=torch.bool),
        truncated=torch.zeros(1, 9, dtype=torch.bool),
        **ones,
    )
    learner, trials = qmix(encoder, MATRIX, mixer=mixer, **FAST), trials_of(encoder, rollout)
    for _ in range(1000):
        learner.learn(trials)
    error = (team_values(learner, trials).view(3, 3) - payoff).abs().max()
    best = values(learner, trials)[0, 0].argmax(-1)  # (N,)
    return float(error), float(payoff[best[0], best[1]])


def test_a_sum_cannot_say_what_a_monotonic_mixer_can() -> None:
    for payoff, mixer in ((PRODUCT, "qmix"), (SUM, "qmix"), (SUM, "vdn")):
        error, paid = played(payoff, mixer)
        assert error < 0.1 and paid == payoff.max()
    error, _ = played(PRODUCT, "vdn")
    assert error > 0.9


def test_neither_can_say_that_an_action_is_best_only_together_with_another() -> None:
    for mixer in ("qmix", "vdn"):
        error, paid = played(PENALTY, mixer)
        assert error > 4 and paid == 0


# --- what is looked at ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["none", "episode", "trial"])
@pytest.mark.parametrize("chunk_length", [0, 2])
def test_values_are_learned_on_what_agents_saw_and_remembered(memory: str, chunk_length: int) -> None:
    """The best actions of a pass along trials are those that the team took step by step."""
    encoder = make_encoder("mg2l", DISCRETE)
    settings: dict[str, Any] = {"memory": memory, "chunk_length": chunk_length, "inputs": ("reward", "episode_start")}
    learner = qmix(encoder, **settings)
    rollout = random_rollout(DISCRETE)
    trials = trials_of(encoder, rollout)
    team, best = Team(learner, encoder, generator()), []
    team.begin(rollout.task)
    for t in range(len(rollout.steps.obs)):
        team.restart(rollout.steps.episode_start[t])
        best.append(team.act(rollout.steps.obs[t]).action)
        team.observe(type(rollout.transition)(*(x[t] for x in rollout.transition)))
    seen = trials._replace(steps=learner.recall.extend(trials.steps))
    assert torch.equal(values(learner, seen).argmax(-1), torch.stack(best))


def losses(learner: Qmix, *trials: Trials) -> list[float]:
    """Of trials, by learners of these weights."""
    return [float(learner.learn(given)["train/td_loss"]) for given in trials]


def test_what_departed_agents_see_and_do_makes_no_difference() -> None:
    encoder = make_encoder("none", DISCRETE)
    rollout, other = (random_rollout(DISCRETE, seed=seed) for seed in (0, 1))
    alive = torch.ones_like(rollout.steps.alive)
    alive[3:6, :, 1] = alive[4, 0] = False
    next_alive = torch.cat([alive[1:], alive[:1]])
    gone = with_steps(rollout, alive=alive, next_alive=next_alive)
    changed = {
        name: torch.where(
            alive.unsqueeze(-1) if name == "obs" else alive, getattr(rollout.steps, name), getattr(other.steps, name)
        )
        for name in ("obs", "action", "reward")
    }
    changed["next_obs"] = torch.where(next_alive.unsqueeze(-1), rollout.steps.next_obs, other.steps.next_obs)
    found = [losses(qmix(encoder), trials_of(encoder, given))[0] for given in (gone, with_steps(gone, **changed))]
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    whole = losses(qmix(encoder), trials_of(encoder, rollout))[0]
    assert found[0] != pytest.approx(whole, rel=1e-4)


def test_actions_that_are_illegal_next_are_worth_nothing() -> None:
    encoder, rollout = make_encoder("none", DISCRETE), random_rollout(DISCRETE)
    legal = torch.ones(*rollout.steps.reward.shape, DISCRETE.action_dim, dtype=torch.bool)
    legal[..., 0] = False
    found = []
    for given in (legal, None):
        learner = qmix(encoder, standardise_rewards=False)
        with torch.no_grad():
            for body in (learner.agents.body, learner.targets["agents"]):
                assert isinstance(body, GroupedMlp)
                body.output.bias[0] += 1000
        trials = trials_of(encoder, with_steps(rollout, next_legal=given))
        views = learner.views(trials.steps, trials.latent)
        online = learner.unrolled(learner.agents.body, views)
        found.append(float(learner.target(trials.steps, trials.latent, views, online).mean()))
    assert found[0] < 10 and found[1] > 100


def test_updates_wait_until_a_batch_is_held_and_follow_the_number_of_episodes() -> None:
    encoder = make_encoder("none", DISCRETE)
    learner = qmix(encoder, batch=4, updates_per_episode=0.5)
    for n_rows, expected in ((4, 6), (8, 18)):  # three episodes begin in each row
        rollout = random_rollout(DISCRETE, n_rows=n_rows)
        assert "train/td_loss" in update(learner, encoder, rollout)
        assert learner.targets.n_updates == expected
    waiting = random_rollout(DISCRETE, n_rows=3)
    replay_of_more = update(qmix(encoder, batch=4), encoder, waiting, capacity=8)
    assert "train/td_loss" not in replay_of_more and replay_of_more["train/epsilon"] > 0


@pytest.mark.parametrize(("env_steps", "expected"), [(0, 1.0), (500, 0.6), (1000, 0.2), (9000, 0.2)])
def test_chance_of_a_random_action_falls_by_the_clock(env_steps: int, expected: float) -> None:
    encoder = make_encoder("none", DISCRETE)
    learner = qmix(encoder, epsilon_end=0.2, epsilon_steps=1000)
    obs, nothing = draw(4000, DISCRETE.n_agents, DISCRETE.obs_dim), torch.zeros(4000, DISCRETE.n_agents, 0)
    best, explored = (
        learner.act(obs, None, nothing, None, generator(), explore=clock).action
        for clock in (None, Clock(0, env_steps, 10_000))
    )
    assert learner.config.epsilon(Clock(0, env_steps, 10_000)) == pytest.approx(expected)
    n_actions = DISCRETE.action_dim
    assert float((best != explored).float().mean()) == pytest.approx(expected * (1 - 1 / n_actions), abs=0.02)


def test_latents_are_inferred_anew_and_the_encoder_is_not_trained() -> None:
    encoder, rollout = make_encoder("mg2l", DISCRETE), random_rollout(DISCRETE)
    before = {name: parameter.detach().clone() for name, parameter in encoder.named_parameters()}
    first = update(qmix(encoder), encoder, acted_by(qmix(encoder), encoder, rollout))
    assert all(torch.equal(parameter, before[name]) for name, parameter in encoder.named_parameters())
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.3 * draw(*parameter.shape))
    second = update(qmix(encoder), encoder, acted_by(qmix(encoder), encoder, rollout))
    assert float(first["train/td_loss"]) != pytest.approx(float(second["train/td_loss"]), rel=1e-4)


def test_weights_of_another_run_are_those_of_its_targets_too() -> None:
    encoder = make_encoder("none", DISCRETE)
    source, started = (qmix(encoder, seed=seed, target_update=1000.0) for seed in (0, 1))
    update(source, encoder, random_rollout(DISCRETE))
    started.load_weights(source.weights())
    for own, copied in zip(source.agents.body.parameters(), started.targets["agents"].parameters(), strict=True):
        assert torch.equal(own, copied)


def test_what_it_cannot_learn_is_refused() -> None:
    learner_class, config = Qmix, qmix(make_encoder("none", DISCRETE)).config
    assert not list(learner_class.problems(config, DISCRETE))
    (line,) = learner_class.problems(config, DISCRETE._replace(is_discrete=False))
    assert "learner=mappo or matd3" in line


def test_what_it_explores_is_no_part_of_its_policy() -> None:
    assert qmix(make_encoder("none", DISCRETE)).sampling(0) is None
    on_policy = make_learner(make_encoder("none", DISCRETE), DISCRETE, kind="mappo").sampling(7)
    assert on_policy == Clock(0, 7, 7)
