"""What every learner owes with every sharing scheme: looped over the registries, so new ones are tested by existing."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from envs import ENVS
from envs.core import EnvSpec, setting
from envs.toy import Turns
from mg2l_kalei.acting.collector import Team, collect
from mg2l_kalei.config import load
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.learners import LEARNERS
from mg2l_kalei.learners.base import Experience, Learner, Setup
from mg2l_kalei.sharing import SHARINGS
from mg2l_kalei.training.assessment import assess
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA, build
from mg2l_kalei.types import ActionSample, Clock, Metrics, Rollout
from tests.representatives import MAIN_SHARINGS
from tests.small_systems import (
    CONTINUOUS,
    DISCRETE,
    SPECS,
    acted_by,
    at,
    can_learn,
    generator,
    make_encoder,
    make_learner,
    random_rollout,
    update,
)

every_learner = pytest.mark.parametrize("kind", LEARNERS)
every_sharing = pytest.mark.parametrize("sharing", SHARINGS)
every_learner_and_spec = pytest.mark.parametrize(
    ("kind", "spec"),
    [
        pytest.param(kind, spec, id=f"{kind}-{name}")
        for kind in LEARNERS
        for name, spec in SPECS.items()
        if can_learn(kind, spec)
    ],
)

# What learns the turns in ten rollouts.
FAST: dict[str, dict[str, Any]] = {
    "mappo": {"hidden": (32, 32), "actor_lr": 3e-3, "critic_lr": 3e-3, "n_epochs": 8, "n_minibatches": 2},
    "matd3": {
        "hidden": (32, 32),
        "actor_lr": 2e-3,
        "critic_lr": 1e-2,
        "gamma": 0.5,
        "n_step": 1,
        "batch": 64,
        "policy_delay": 1,
    },
    "qmix": {"hidden": (32, 32), "lr": 5e-3, "gamma": 0.5, "batch": 32, "updates_per_episode": 0.5},
}


def parameters(learner: Learner, encoder: TaskEncoder) -> dict[str, Tensor]:
    """Everything of them that could change in an update, by name."""
    tensors: dict[str, Tensor] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, Tensor):
            tensors[path] = value.detach().clone()
        elif isinstance(value, dict):
            for name, item in value.items():
                walk(f"{path}.{name}", item)

    walk("learner", learner.state_dict() | {"weights": learner.weights()})
    walk("encoder", dict(encoder.state_dict()))
    return tensors


def updated(learner: Learner, encoder: TaskEncoder, rollout: Rollout, *, n: int = 1) -> dict[str, Tensor]:
    """After some updates on the rollout, with the learner's own actions in it."""
    for i in range(n):
        update(learner, encoder, acted_by(learner, encoder, rollout), 36 * (i + 1), seed=i)
    return parameters(learner, encoder)


def differing(first: dict[str, Tensor], second: dict[str, Tensor]) -> set[str]:
    assert first.keys() == second.keys()
    return {name for name in first if not torch.equal(first[name], second[name])}


@every_sharing
@every_learner_and_spec
def test_a_restored_learner_makes_the_same_next_update_bit_for_bit(kind: str, sharing: str, spec: EnvSpec) -> None:
    rollout = random_rollout(spec)
    systems = []
    for seed in (0, 1):
        encoder = make_encoder("mg2l", spec, seed=seed)
        systems.append((make_learner(encoder, spec, kind=kind, sharing=sharing, seed=seed), encoder))
    (saved, saved_encoder), (restored, restored_encoder) = systems
    before = updated(saved, saved_encoder, rollout, n=2)
    restored.load_weights(copy.deepcopy(saved.weights()))
    restored.load_state_dict(copy.deepcopy(saved.state_dict()))
    restored_encoder.load_state_dict(saved_encoder.state_dict())
    assert differing(before, parameters(restored, restored_encoder)) == set()
    after = updated(saved, saved_encoder, rollout)
    assert differing(after, updated(restored, restored_encoder, rollout)) == set()
    assert differing(before, after)


@every_sharing
@every_learner
def test_a_seed_makes_one_learner_and_another_seed_another(kind: str, sharing: str) -> None:
    encoder = make_encoder("none")
    first, again, other = (
        parameters(make_learner(encoder, kind=kind, sharing=sharing, seed=seed), encoder) for seed in (0, 0, 1)
    )
    assert differing(first, again) == set()
    assert differing(first, other)


@every_sharing
@every_learner_and_spec
def test_gradients_that_others_left_behind_do_not_matter(kind: str, sharing: str, spec: EnvSpec) -> None:
    rollout, results = random_rollout(spec), []
    for stale in (None, 1e3):
        encoder = make_encoder("mg2l", spec)
        learner = make_learner(encoder, spec, kind=kind, sharing=sharing)
        for parameter in (*encoder.parameters(), *learner.actor.parameters()):
            parameter.grad = None if stale is None else torch.full_like(parameter, stale)
        results.append(updated(learner, encoder, rollout))
    assert differing(*results) == set()


@every_sharing
@every_learner
def test_illegal_actions_are_never_taken(kind: str, sharing: str) -> None:
    encoder = make_encoder("none", DISCRETE)
    learner = make_learner(encoder, DISCRETE, kind=kind, sharing=sharing)
    obs, nothing = random_rollout(DISCRETE, n_steps=1, n_rows=500).steps.obs[0], torch.zeros(500, DISCRETE.n_agents, 0)
    legal = torch.rand(500, DISCRETE.n_agents, DISCRETE.action_dim, generator=generator(1)) < 0.4
    legal[..., 0] |= ~legal.any(-1)
    for explore in (None, at(0)):
        action = learner.act(obs, legal, nothing, None, generator(), explore=explore).action
        assert legal.gather(-1, action.unsqueeze(-1)).all()
        free = learner.act(obs, None, nothing, None, generator(), explore=explore).action
        assert not legal.gather(-1, free.unsqueeze(-1)).all()


@every_learner_and_spec
def test_exploration_is_random_and_the_mode_is_not(kind: str, spec: EnvSpec) -> None:
    encoder = make_encoder("none", spec)
    learner = make_learner(encoder, spec, kind=kind)
    rollout = random_rollout(spec)
    for explore in (None, at(0)):
        first, again, other = (
            learner.act(rollout.steps.obs[0], None, rollout.latent[0], None, generator(seed), explore=explore).action
            for seed in (0, 0, 1)
        )
        assert torch.equal(first, again)
        assert torch.equal(first, other) == (explore is None)


@every_sharing
@every_learner_and_spec
def test_metrics_are_finite_numbers_under_their_groups_names(kind: str, sharing: str, spec: EnvSpec) -> None:
    encoder = make_encoder("mg2l", spec)
    learner = make_learner(encoder, spec, kind=kind, sharing=sharing)
    metrics = update(learner, encoder, acted_by(learner, encoder, random_rollout(spec)))
    assert metrics
    for name, value in metrics.items():
        assert name.split("/")[0] in ("train", "sharing"), name
        assert torch.as_tensor(value).numel() == 1 and torch.as_tensor(value).isfinite(), name


def turns_return(kind: str, sharing: str, **settings: Any) -> tuple[Turns, float]:
    """The family, and the return of the mode after ten rollouts of 32 episodes."""
    family = Turns("toy-turns", ENVS["toy-turns"][1], np.random.default_rng(0))
    encoder, task = make_encoder("none", family.spec), torch.zeros(32, dtype=torch.int64)
    learner = make_learner(encoder, family.spec, kind=kind, sharing=sharing, **FAST.get(kind, {}) | settings)
    env, team = family.make(32, torch.device("cpu"), generator(1)), Team(learner, encoder, generator(2))
    T = family.spec.episode_steps
    for i in range(10):
        rollout = collect(env, team, task, T, explore=at(0))
        update(learner, encoder, rollout, 32 * T * (i + 1), seed=i)
    return family, float(collect(env, team, task, T, explore=None).steps.reward.mean(-1).sum(0).mean())


@pytest.mark.parametrize("sharing", MAIN_SHARINGS)
@every_learner
def test_every_scheme_learns_the_turns(kind: str, sharing: str) -> None:
    family, learnt = turns_return(kind, sharing)
    assert learnt >= 0.9 * family.optimal_return


@every_learner
def test_agents_that_share_all_and_do_not_know_who_they_are_cannot_take_turns(kind: str) -> None:
    family, learnt = turns_return(kind, "full", agent_id=False)
    assert 0.5 * family.indistinct_return < learnt <= 1.1 * family.indistinct_return


def test_what_a_continuous_action_was_is_what_its_probability_is_of() -> None:
    encoder = make_encoder("none")
    learner, rollout = make_learner(encoder), random_rollout()
    sample = learner.act(rollout.steps.obs[0], None, rollout.latent[0], None, generator(), explore=at(0))
    assert sample.action.shape == rollout.steps.action[0].shape
    assert sample.log_prob is not None
    assert sample.log_prob.shape == rollout.steps.reward[0].shape == (4, CONTINUOUS.n_agents)


# --- learners that are not on-policy ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class QTableConfig:
    rate: float = setting(2.0, "of gradient steps", above=0)


class QTable(Learner):
    """Off-policy: the mean reward of each action, of replayed steps. It knows no log-probabilities."""

    is_on_policy = False
    replays = ("obs", "action", "reward")

    def __init__(self, config: QTableConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self.networks = {"actor": setup.make_sharing().linear(self.spec.obs_dim, self.spec.action_dim, gain=1.0)}
        self.chances: list[float] = []  # of a random action

    def act(
        self,
        obs: Tensor,
        legal: Tensor | None,
        latent: Tensor,
        memory: Tensor | None,
        generator: torch.Generator,
        *,
        explore: Clock | None,
    ) -> ActionSample:
        best = self.actor(obs).argmax(-1)
        if explore is None:
            return ActionSample(best)
        self.chances.append(max(0.1, 1 - 2 * explore.env_steps / explore.total_env_steps))
        is_random = torch.rand(best.shape, generator=generator) < self.chances[-1]
        drawn = torch.randint(self.spec.action_dim, best.shape, generator=generator)
        return ActionSample(torch.where(is_random, drawn, best))

    def update(self, experience: Experience, clock: Clock, generator: torch.Generator) -> Metrics:
        replay = experience.replay
        assert replay is not None and experience.fresh.log_prob is None
        optimiser, loss = torch.optim.SGD(self.actor.parameters(), self.config.rate), torch.zeros(())
        for _ in range(10):
            trial, step = (torch.randint(n, (256,), generator=generator) for n in (len(replay), replay.n_steps))
            drawn = replay.steps(trial, step)
            value = self.actor(drawn["obs"]).gather(-1, drawn["action"].unsqueeze(-1)).squeeze(-1)
            loss = (value - drawn["reward"]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return {"train/td_loss": loss.detach()}


def test_an_off_policy_learner_trains_from_the_replay_and_explores_by_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LEARNERS, "q_table", (QTable, QTableConfig()))
    words = ["--env=toy-turns", "--algo=mappo", "learner=q_table", "sharing=independent", "n_rows=16"]
    config = load([*words, "n_iters=30", "replay.capacity=256", "n_threads=1"], SCHEMA, CONFIG_DIR).config
    system = build(config, torch.device("cpu"))
    assert isinstance(system.learner, QTable)
    trainer = MetaTrainer(system, tmp_path / "bad")
    assert trainer.replay is not None and set(trainer.replay.layouts) == {"obs", "action", "reward"}
    for _ in range(config.n_iters):
        trainer.iterate()
    chances = system.learner.chances
    assert chances[0] == 1 and chances[-1] == 0.1 and chances == sorted(chances, reverse=True)
    result = assess(system, 0, "train", n_episodes=1, n_trials=32, actions="mode", bad_batch=tmp_path / "bad")
    assert isinstance(system.family, Turns)
    assert result.returns.mean() > 0.9 * system.family.optimal_return
