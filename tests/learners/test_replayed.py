"""Are latents of replayed trials those of the encoder as it is now, and do target networks follow as they are told?"""

from __future__ import annotations

import copy
import dataclasses
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mg2l_kalei.buffers.sequences import draw_trials
from mg2l_kalei.buffers.trials import ReplayConfig, TrialReplay
from mg2l_kalei.encoders import ENCODERS
from mg2l_kalei.learners import LEARNERS
from mg2l_kalei.learners.base import Experience
from mg2l_kalei.learners.matd3 import Matd3
from mg2l_kalei.learners.replayed import ReplayLearner, Trials, episodes_in, of_team, relived
from mg2l_kalei.learners.targets import Targets
from mg2l_kalei.networks import GroupedMlp, NetworkConfig
from mg2l_kalei.sharing.independent import SepsConfig, SepsSharing
from mg2l_kalei.sharing.kaleidoscope import KaleidoscopeConfig, KaleidoscopeSharing
from mg2l_kalei.types import Clock, Step, TaskLatent, Transition
from tests.small_systems import DISCRETE, draw, generator, make_encoder, make_learner, random_rollout, with_steps


@pytest.mark.parametrize("kind", ENCODERS)
def test_latents_of_replayed_trials_are_those_of_living_through_them_now(kind: str) -> None:
    """Step by step, with the encoder as it has become since they were stored; the gaps are of agents that had left."""
    encoder, rollout = make_encoder(kind, DISCRETE), random_rollout(DISCRETE)
    alive = torch.rand(rollout.steps.alive.shape, generator=generator()) < 0.7
    rollout = with_steps(rollout, alive=alive)
    T = len(rollout.steps.obs)
    replay = TrialReplay(ReplayConfig(capacity=8), DISCRETE, T, Step._fields, torch.device("cpu"))
    replay.add(rollout.steps, rollout.task)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * draw(*parameter.shape))
    trial = draw_trials(replay, 3, generator())
    trials = relived(replay, trial, encoder, generator())
    belief = encoder.prior(rollout.task[trial])
    for t in range(T + 1):
        now = encoder.latent(belief)
        torch.testing.assert_close(trials.latent.global_[t], now.global_)
        torch.testing.assert_close(trials.latent.local[t], now.local)
        if t < T:
            belief = encoder.observe(belief, Transition(*(x[t][trial] for x in rollout.transition)))
    assert not trials.latent.local.requires_grad and trials.steps.obs.shape[:2] == (T, 3)


def test_replayed_trials_are_lived_through_on_samples_where_teams_act_on_them() -> None:
    encoder, rollout = make_encoder("mg2l", DISCRETE, sampled=True, read_at="episode"), random_rollout(DISCRETE)
    T = len(rollout.steps.obs)
    replay = TrialReplay(ReplayConfig(capacity=8), DISCRETE, T, Step._fields, torch.device("cpu"))
    replay.add(rollout.steps, rollout.task)
    draws = [relived(replay, torch.arange(3), encoder, generator(seed)).latent.local for seed in (0, 0, 1)]
    means = encoder.latents(rollout).local[:, :3].detach()
    assert torch.equal(draws[0], draws[1]) and not torch.isclose(draws[0], draws[2]).any()
    mean = torch.stack([relived(replay, torch.arange(3), encoder, generator(s)).latent.local for s in range(400)]).mean(
        0
    )
    torch.testing.assert_close(mean, means, atol=0.25, rtol=0)
    goes_on = ~rollout.steps.episode_start[1:, :3]
    assert torch.equal(draws[0][1:-1][goes_on], draws[0][:-2][goes_on])  # held through an episode


@pytest.mark.parametrize("pooling", ["attention_head", "gaussian_product"])
@pytest.mark.parametrize("cost", [0.0, 0.3])
def test_what_values_want_of_latents_reaches_the_layers_that_they_come_from(pooling: str, cost: float) -> None:
    """As if they had been learned on latents with their gradient; a lesson's leaf stands for many losses."""
    encoder = make_encoder("mg2l", DISCRETE, pooling=pooling, critic_kl_coef=cost)
    rollout = random_rollout(DISCRETE)
    lived = rollout._replace(steps=Step._make(None if x is None else x[:, :3] for x in rollout.steps))
    replay = TrialReplay(ReplayConfig(capacity=8), DISCRETE, len(rollout.steps.obs), Step._fields, torch.device("cpu"))
    replay.add(rollout.steps, rollout.task)
    taught = encoder.critic_parameters()
    optimiser = Recorded(taught)
    trials = relived(replay, torch.arange(3), encoder, generator(), is_lesson=True)
    assert not trials.latent.local.requires_grad
    for weight in (0.5, 2.0):
        (weight * trials.latent.global_[1:].square()).sum().backward()
    assert all(parameter.grad is None for parameter in encoder.parameters())
    trials.teach(optimiser, 2)  # type: ignore[arg-type]
    latents, its_cost = encoder.learned_latents(lived, generator())
    (2 * its_cost + 2.5 * latents.global_[1:].square().sum()).backward()
    wanted = gradients_of(taught)
    assert any(float(gradient.abs().max()) > 0 for gradient in wanted)
    for gradient, expected in zip(optimiser.gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, expected)
    assert relived(replay, torch.arange(3), encoder, generator()).lesson is None


def gradients_of(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]


class Recorded:
    """Keeps the gradients of a step that it does not make."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters, self.gradients = parameters, list[Tensor]()

    def step(self, loss: Tensor, gradient: Tensor | None = None) -> None:
        loss.backward(gradient)
        self.gradients = gradients_of(self.parameters)
        for parameter in self.parameters:
            parameter.grad = None


@pytest.mark.parametrize("kind", ["qmix", "matd3"])
@pytest.mark.parametrize("is_taught", [False, True])
def test_encoders_learn_of_values_where_they_are_told_to(kind: str, is_taught: bool) -> None:
    encoder = make_encoder("mg2l", DISCRETE)
    rate: dict[str, Any] = {"updates_per_episode": 1.0, "time_limits": "terminal"} if kind == "qmix" else {}
    learner = make_learner(encoder, DISCRETE, kind=kind, trains_encoder=is_taught, batch=4, **rate)
    rollout = random_rollout(DISCRETE, n_rows=4)
    replay = TrialReplay(ReplayConfig(capacity=8), DISCRETE, len(rollout.steps.obs), Step._fields, torch.device("cpu"))
    replay.add(rollout.steps, rollout.task)
    taught = {id(parameter) for parameter in encoder.critic_parameters()}
    before = {name: value.detach().clone() for name, value in encoder.named_parameters()}
    learner.update(Experience(rollout, replay, encoder), Clock(0, 0, 100), generator())
    moved = {name for name, value in encoder.named_parameters() if not torch.equal(value, before[name])}
    assert bool(moved) == is_taught
    assert moved <= {name for name, value in encoder.named_parameters() if id(value) in taught}
    assert learner.drawn is not None
    torch.save(learner.drawn, io.BytesIO())
    copy.deepcopy(learner.drawn)  # no gradient hangs on what is kept


@pytest.mark.parametrize(
    ("settings", "problem"), [({"mixer": "vdn"}, "sees no latent"), ({"time_limits": "bootstrap"}, "run away")]
)
def test_values_that_cannot_teach_are_refused(settings: dict[str, Any], problem: str) -> None:
    kind, config = LEARNERS["qmix"]
    changed = dataclasses.replace(config, **{"trains_encoder": True, "time_limits": "terminal", **settings})
    assert [problem in line for line in kind.problems(changed, DISCRETE)] == [True]


def test_every_update_counts_in_what_the_encoder_is_taught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches cut out of the same trials are one lesson, of so many losses."""
    counts: list[int] = []
    monkeypatch.setattr(Trials, "teach", lambda self, optimiser, n_losses: counts.append(n_losses))
    encoder, rollout = make_encoder("mg2l", DISCRETE), random_rollout(DISCRETE, n_rows=4)
    settings: dict[str, Any] = {"trains_encoder": True, "batch": 4, "updates_per_step": 0.25, "encoded_batches": 3}
    learner = make_learner(encoder, DISCRETE, kind="matd3", **settings)
    assert isinstance(learner, Matd3)
    replay = TrialReplay(ReplayConfig(capacity=8), DISCRETE, len(rollout.steps.obs), Step._fields, torch.device("cpu"))
    replay.add(rollout.steps, rollout.task)
    learner.update(Experience(rollout, replay, encoder), Clock(0, 0, 100), generator())
    assert sum(counts) == learner.n_updates > len(counts) > 1


def test_updates_are_counted_by_episodes() -> None:
    rollout = random_rollout(n_steps=9, n_rows=4)  # three episodes begin in each row
    assert episodes_in(rollout, 4) == 12
    amid = rollout._replace(told=TaskLatent(torch.zeros(10, 4, 0), torch.zeros(10, 4, 2, 0)))  # nobody knows where
    assert episodes_in(amid, 4) == 9


def made_learner() -> ReplayLearner:
    learner = make_learner(make_encoder("none", DISCRETE), DISCRETE, kind="qmix")
    assert isinstance(learner, ReplayLearner)
    return learner


@pytest.mark.parametrize("rate", [0.01, 0.03, 0.1, 0.3, 1.0, 1.7])
def test_a_rate_is_kept_over_many_rollouts_and_a_restart(rate: float) -> None:
    learner, restored = (made_learner() for _ in range(2))
    made = sum(learner.due(15 * rate) for _ in range(50))
    restored.load_state_dict(learner.state_dict())
    assert made + sum(restored.due(15 * rate) for _ in range(50)) == pytest.approx(1500 * rate, abs=1e-3)


@pytest.mark.parametrize("kind", ["qmix", "matd3"])
def test_the_first_batch_that_spoilt_an_update_is_kept_to_look_at(kind: str) -> None:
    learner = make_learner(make_encoder("none", DISCRETE), DISCRETE, kind=kind)
    assert isinstance(learner, ReplayLearner)
    for number, loss in enumerate([1.0, 2.0, torch.nan, 4.0]):
        metrics = learner.learned((torch.tensor(number),), {"train/td_loss": loss, "train/q": torch.tensor(1.0)})
        assert metrics["train/td_loss"] is loss
        assert learner.drawn is not None and int(learner.drawn[0]) == min(number, 2)


def test_what_all_are_paid_alike_is_the_teams_whoever_is_left() -> None:
    reward, alive = torch.ones(3, 1, 2), torch.tensor([[[True, True]], [[True, False]], [[False, False]]])
    steps = random_rollout(n_steps=3, n_rows=1).steps._replace(reward=reward, alive=alive)
    spec = DISCRETE._replace(n_agents=2, shared_reward=True)
    assert of_team(steps, spec).flatten().tolist() == [1, 1, 0]
    assert of_team(steps, spec._replace(shared_reward=False)).flatten().tolist() == [1, 0.5, 0]


def network() -> GroupedMlp:
    return GroupedMlp(
        KaleidoscopeSharing(KaleidoscopeConfig(), range(3), generator()), 4, 2, NetworkConfig(hidden=(5,))
    )


def distances(targets: Targets) -> list[float]:
    """From each parameter of the network, thresholds among them, to its copy."""
    pairs = zip(targets.networks["q"].parameters(), targets["q"].parameters(), strict=True)
    return [float((own - copied).detach().abs().max()) for own, copied in pairs]


def moved(update: float) -> Targets:
    """Targets of a network of which every parameter has moved by 1."""
    targets = Targets({"q": network()}, update)
    with torch.no_grad():
        for parameter in targets.networks["q"].parameters():
            parameter.add_(1.0)
    return targets


def test_hard_targets_are_copied_at_intervals_and_soft_ones_go_a_share_of_the_way() -> None:
    hard, soft = moved(3), moved(0.25)
    assert len(distances(hard)) == 6  # weight, thresholds and bias of two layers
    for n in range(1, 4):
        hard.follow(), soft.follow()
        assert distances(hard) == pytest.approx([0.0 if n == 3 else 1.0] * 6, abs=1e-6)
        assert distances(soft) == pytest.approx([0.75**n] * 6, abs=1e-6)
    assert not any(parameter.requires_grad for parameter in hard["q"].parameters())


def test_targets_go_on_where_they_were_saved() -> None:
    saved, restored = moved(3), moved(3)
    saved.follow(), saved.follow()
    restored.networks["q"].load_state_dict(saved.networks["q"].state_dict())
    restored.load_state_dict(saved.state_dict())
    assert distances(restored) == distances(saved)
    restored.follow()
    assert max(distances(restored)) == 0


def test_who_shares_with_whom_is_true_of_targets_at_once() -> None:
    sharing = SepsSharing(SepsConfig(), [0, 1, 0], generator())
    targets = Targets({"q": GroupedMlp(sharing, 4, 2, NetworkConfig(hidden=(5,)))}, 100)
    for name, buffer in targets.networks["q"].named_buffers():
        if name.endswith("places"):
            buffer.copy_(torch.tensor([1, 0, 0]))
    targets.take_buffers()
    x = draw(7, 3, 4)
    with torch.no_grad():
        assert torch.equal(targets["q"](x), targets.networks["q"](x))
