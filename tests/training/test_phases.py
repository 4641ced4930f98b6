"""Is every environment step of a run foreseen, and is only kept and done what somebody learns from?"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mg2l_kalei.config import ConfigError
from mg2l_kalei.learners import LEARNERS, Experience
from mg2l_kalei.types import Clock, Step, Transition
from tests.training.trainers import every_recipe, load_words, make_trainer, tiny, toy_of

N_ITERS = 5
SOURCES = ("online", "replay")


@pytest.mark.parametrize("source", SOURCES)
@every_recipe
def test_the_steps_foreseen_are_those_that_a_run_makes(algo: str, source: str) -> None:
    config = tiny(algo, toy_of(algo), f"n_iters={N_ITERS}", source=source, explore_interval=2, explore_rows=3)
    if source == "replay" and not LEARNERS[config.kinds["learner"]][0].is_on_policy:
        with pytest.raises(ConfigError, match=r"would be taken for exploration; expected context\.source=online"):
            load_words(f"--algo={algo}", "--env=toy-turns", "context.source=replay")
        return
    trainer = make_trainer(config)
    made = {name: 0 for name in trainer.phases}
    for _ in range(N_ITERS):
        before = trainer.clock
        assert before.total_env_steps == trainer.total_env_steps
        trainer.iterate()
    assert trainer.env_steps == trainer.total_env_steps
    explores = source == "replay" and trainer.system.encoder.learns
    made["collect"] = N_ITERS * 4 * 6  # rows, steps of a trial
    if explores:
        made["explore"] = (2 + 1 + 1) * 3 * 6  # one trial of every corner, then one row's each
    assert {name: phase.env_steps(N_ITERS) for name, phase in trainer.phases.items()} == made


@pytest.mark.parametrize("n_iters", [1, 2, 3, 7])
def test_a_run_of_any_length_is_foreseen(n_iters: int) -> None:
    trainer = make_trainer(tiny("mg2l", "toy-turns", f"n_iters={n_iters}", source="replay", explore_interval=3))
    for _ in range(n_iters):
        trainer.iterate()
    assert trainer.env_steps == trainer.total_env_steps


def test_phases_are_told_the_time_that_is_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learners, whose schedules follow it, count the steps that they learn from."""
    trainer = make_trainer(tiny("mg2l", "toy-corners", "n_iters=2", source="replay", explore_interval=1))
    update, told = trainer.system.learner.update, []

    def watched(experience: Any, clock: Any, generator: torch.Generator) -> Any:
        told.append(clock)
        return update(experience, clock, generator)

    monkeypatch.setattr(trainer.system.learner, "update", watched)
    for number in range(2):
        trainer.iterate()
        assert told[-1] == Clock(number, trainer.env_steps, trainer.total_env_steps)


@every_recipe
def test_trials_are_kept_where_somebody_learns_from_them(algo: str) -> None:
    trainer = make_trainer(tiny(algo, toy_of(algo)))
    trainer.iterate()
    model = trainer.system.world_model
    if trainer.system.learner.replays or model is not None:
        assert trainer.replay is not None and trainer.replay.n_added == 4
        asked = set(trainer.system.learner.replays) | set(Transition._fields)
        asked |= set() if model is None else set(model.replays)
        absent = set() if trainer.system.family.spec.is_discrete else {"legal", "next_legal"}
        assert set(trainer.replay.layouts) == asked - absent
        return
    if not trainer.system.encoder.learns:
        assert trainer.replay is None and trainer.shop.replay is None and trainer.shop.inference is None
        assert trainer.trials_since(0) is None and trainer.oldest_trial == 0
        assert trainer.system.replayed_fields == ()
        return
    assert trainer.replay is not None
    assert set(trainer.replay.layouts) == set(Transition._fields) < set(Step._fields)


@pytest.mark.parametrize("source", SOURCES)
def test_contexts_come_from_exploration_alone_where_latents_are_replayed(source: str) -> None:
    """What was acted on a latent of the task would tell the encoder what it knew already."""
    trainer = make_trainer(tiny("mg2l_kalei", "toy-corners", source=source, explore_interval=2, explore_rows=4))
    kept = []
    for _ in range(3):
        trainer.iterate()
        assert trainer.replay is not None
        kept.append(trainer.replay.n_added)
    assert kept == ([4, 8, 12] if source == "online" else [4, 4, 8])


def test_latents_are_held_where_they_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    for source in SOURCES:
        trainer = make_trainer(tiny("mg2l_kalei", "toy-corners", source=source))
        seen: list[Experience] = []
        update = trainer.system.learner.update

        def watched(experience: Any, *others: Any, update: Any = update, seen: list[Experience] = seen) -> Any:
            seen.append(experience)
            return update(experience, *others)

        monkeypatch.setattr(trainer.system.learner, "update", watched)
        trainer.iterate()
        (experience,) = seen
        assert experience.replay is trainer.replay and experience.encoder is trainer.system.encoder
        is_held = bool((experience.fresh.latent == experience.fresh.latent[:1]).all())
        assert is_held == (experience.fresh.contexts is not None) == (source == "replay")


@pytest.mark.parametrize("sampled", [False, True])
def test_what_is_held_is_sampled_where_training_acts_on_samples_alone(sampled: bool) -> None:
    trainer = make_trainer(tiny("mg2l_kalei", "toy-corners", source="replay", sampled=sampled))
    trainer.iterate()
    assert trainer.shop.inference is not None
    held = trainer.shop.inference.held_latents(torch.tensor([0, 1, 2, 3]))
    assert held.contexts is not None
    means = trainer.system.encoder.encode(held.contexts).local
    assert torch.equal(held.latent, means) == (not sampled)


def test_a_team_explores_on_one_sample_of_the_prior_for_all_of_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """As wide as actors are told, whatever the critic is."""
    trainer = make_trainer(tiny("mg2l", "toy-corners"))
    inference = trainer.shop.inference
    assert inference is not None
    monkeypatch.setattr(inference.encoder, "local_dim", 3)
    latent = inference.prior_latents(4000, 2).latent
    assert latent.shape == (4000, 2, 3) and torch.equal(latent[:, 0], latent[:, 1])
    torch.testing.assert_close(latent[:, 0].mean(0), torch.zeros(3), rtol=0, atol=0.1)
    torch.testing.assert_close(latent[:, 0].T.cov(), torch.eye(3), rtol=0, atol=0.1)


def test_a_replay_of_a_trial_for_each_task_never_lacks_one() -> None:
    """toy-corners has four training tasks; three rows at a time leave no pass whole."""
    words = ("mg2l", "toy-corners", "n_iters=6")
    config = tiny(*words, source="replay", explore_interval=1, explore_rows=3, capacity=4)
    trainer = make_trainer(config)
    n_tasks = len(trainer.shop.train_tasks)
    assert n_tasks == 4
    for _ in range(6):
        trainer.iterate()
        assert trainer.replay is not None
        assert len(trainer.replay.task[: len(trainer.replay)].unique()) == n_tasks


@pytest.mark.parametrize(("learner", "learns"), [("mappo", False), ("qmix", True)])
def test_a_rollout_before_its_team_was_grouped_anew_teaches_whoever_learns_from_any_teams(
    learner: str, learns: bool
) -> None:
    words = ("n_groups=2", "group_updates=2", *(["learner.batch=2"] if learner == "qmix" else []))
    trainer = make_trainer(load_words("--algo=seps", "--env=toy-turns", "device=cpu", f"learner={learner}", *words))
    before = [parameter.detach().clone() for parameter in trainer.system.learner.actor.parameters()]
    metrics = trainer.iterate()
    assert ("train/actor_grad_norm" in metrics) == learns
    trainer.iterate()
    assert any((a != b).any() for a, b in zip(before, trainer.system.learner.actor.parameters(), strict=True))


def test_learners_find_the_fresh_trials_in_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tiny("mg2l_full", "toy-corners"))
    update, seen = trainer.system.learner.update, []

    def watched(experience: Experience, *others: Any) -> Any:
        assert experience.replay is not None
        last = experience.replay.since(experience.replay.n_added - 4)[1]
        seen.append(torch.equal(last["obs"].transpose(0, 1), experience.fresh.steps.obs))
        return update(experience, *others)

    monkeypatch.setattr(trainer.system.learner, "update", watched)
    for _ in range(2):
        trainer.iterate()
    assert seen == [True, True]
