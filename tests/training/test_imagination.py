"""Does a team learn in its world model, from beliefs as it would have them, and do other runs stay as they were?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mg2l_kalei import Callback, StopTraining, TrainingEvent, configure, train
from mg2l_kalei.acting.collector import Past, Team
from mg2l_kalei.buffers.windows import Moments, histories, observed_trials
from mg2l_kalei.config import ConfigError
from mg2l_kalei.config.run_config import deciding_settings, run_name
from mg2l_kalei.encoders import ENCODERS
from mg2l_kalei.learners import Experience
from mg2l_kalei.learners.replayed import relived
from mg2l_kalei.types import Rollout
from mg2l_kalei.world_models.base import starts_at
from tests.small_runs import folder_of, remains
from tests.small_runs import tiny as tiny_run
from tests.small_systems import generator
from tests.training.test_system import train_two_iterations
from tests.training.trainers import load_words, make_trainer, tiny

MODEL = "world_model=continuous"
RUN_NAME = "default-s0-c944f1d3"


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("env", ["toy-turns", "toy-corners"])  # discrete, of which some are illegal, and continuous
def test_every_encoder_trains_with_a_model(encoder: str, env: str) -> None:
    train_two_iterations(tiny("mg2l_kalei", env, MODEL, f"encoder={encoder}", inputs=("action", "episode_start")))


def test_imagined_steps_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tiny("mappo", "toy-corners", MODEL))
    learned: list[Rollout] = []
    update = trainer.system.learner.update

    def watched(experience: Experience, *given: Any) -> Any:
        learned.append(experience.fresh)
        return update(experience, *given)

    monkeypatch.setattr(trainer.system.learner, "update", watched)
    metrics = [trainer.iterate() for _ in range(2)]
    assert trainer.env_steps == 2 * 4 * 6 == trainer.total_env_steps * 2 // trainer.config.n_iters
    assert [len(rollout.latent) for rollout in learned] == [6, 3, 3] * 2  # one of the world, two imagined
    assert [float(one["imagined/env_steps"]) for one in metrics] == [2 * 3 * 4, 2 * 2 * 3 * 4]
    assert float(metrics[-1]["imagined/first_ratio_error"]) <= 1e-5
    for rollout in learned:
        assert torch.equal(rollout.steps.state, rollout.steps.obs.flatten(-2))  # so critics see the same everywhere
    assert learned[1].steps.truncated[-1].all() and not learned[1].steps.terminated.any()


def test_imagined_experience_alone_can_be_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tiny("mappo", "toy-corners", MODEL, real_rollouts=False))
    monkeypatch.delattr(type(trainer.phases["learn"]), "run")
    metrics = trainer.iterate()
    assert "imagined/surrogate" in metrics and "train/surrogate" not in metrics


@pytest.mark.parametrize("encoder", ["none", "mg2l"])
@pytest.mark.parametrize(("algo", "env"), [("mg2l_qmix", "toy-turns"), ("mg2l_matd3", "toy-corners")])
def test_learners_that_replay_do_so_with_what_was_just_imagined(
    algo: str, env: str, encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with the latents acted on there; in the world, with those that the trials tell."""
    words = ("learner.time_limits=bootstrap", "network.memory=none") if "qmix" in algo else ()
    trainer = make_trainer(tiny(algo, env, MODEL, f"encoder={encoder}", *words, "learner.batch=4"))
    learner, given = trainer.system.learner, []
    update = learner.update

    def watched(experience: Experience, *others: Any) -> Any:
        given.append(experience)
        return update(experience, *others)

    monkeypatch.setattr(learner, "update", watched)
    metrics = trainer.iterate()
    real, first, second = given
    assert second.replay is not None
    assert real.replay is trainer.replay and first.replay is second.replay and len(second.replay) == 2 * 4
    trials = relived(second.replay, torch.arange(4, 8), second.encoder, generator())
    assert torch.equal(trials.latent.local[:-1], second.fresh.latent)
    assert torch.equal(trials.steps.next_obs, second.fresh.steps.next_obs)
    assert "imagined/td_loss" in metrics and "train/td_loss" in metrics
    assert torch.isfinite(torch.as_tensor(metrics["imagined/td_loss"]))


def test_what_single_rollouts_log_is_told_of_those() -> None:
    """Masks are reset after some updates alone."""
    trainer = make_trainer(tiny("mg2l_kalei", "toy-corners", MODEL, real_rollouts=False, reset_interval=1))
    metrics = [trainer.iterate() for _ in range(4)]
    assert any("sharing/reset_weights" in of_iteration for of_iteration in metrics)


def test_nobody_imagines_before_the_model_has_learned() -> None:
    trainer = make_trainer(tiny("mappo", "toy-corners", MODEL, first_trials=8))
    names = [set(trainer.iterate()) for _ in range(3)]
    assert not any(name.startswith(("imagined/", "world_model/")) for name in names[0])
    assert "imagined/surrogate" in names[1] and "world_model/error_1" not in names[1]
    assert "world_model/error_1" in names[2]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_team_goes_on_as_if_it_had_lived_through_the_past(encoder: str) -> None:
    """Its latents are those that the encoder infers from the trial."""
    trainer = make_trainer(tiny("mg2l_kalei", "toy-corners", MODEL, f"encoder={encoder}"))
    trainer.iterate()
    replay, system = trainer.replay, trainer.system
    assert replay is not None
    moments = Moments(torch.arange(4), torch.tensor([0, 1, 3, 5]))  # episodes are of 4 steps
    starts, past = starts_at(replay, moments, 1), histories(replay, moments)
    team = Team(system.learner, system.encoder, generator())
    told = team.resume(Past(*past, starts.task, starts.episode_start))
    steps = observed_trials(replay, moments.trial)
    whole = Rollout(steps, starts.task, torch.zeros(6, 4, 2, 0))
    with torch.no_grad():
        expected = system.encoder.latents(whole)
    torch.testing.assert_close(team.latent, expected.local[moments.step, torch.arange(4)])
    assert torch.equal(told.local, team.latent)
    torch.testing.assert_close(told.global_, expected.global_[moments.step, torch.arange(4)])
    assert torch.equal(starts.seen.obs, steps.obs[moments.step, torch.arange(4)])
    assert team.episode_start.tolist() == [True, False, False, False]


# --- what it is combined with -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--algo=qmix", "network.memory=none"], "expected learner.time_limits=bootstrap"),
        (["--algo=rl2"], "network.memory=trial remembers nothing"),
        (["--algo=mappo", "network.inputs=[action]"], "expected network.inputs=\\[\\]"),
        (["--algo=varibad"], "expected learner.horizon=episode"),
        (["--algo=mappo", "world_model.imagined_rollouts=0", "world_model.real_rollouts=false"], "learns from nothing"),
        (["--algo=mg2l_kalei", "context.source=replay"], "expected context.source=online"),
        (["--algo=mappo", "world_model.members=1", "world_model.max_spread=0.1"], "one model disagrees with nobody"),
        (["--algo=marie", "world_model.burn_in=3"], "expected context_steps of 5 or more"),
        (["--algo=mappo", "world_model.width=30"], "width=30 is not a multiple of n_heads=4"),
    ],
)
def test_what_cannot_be_combined_is_refused_in_a_line(words: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as error:
        load_words("--env=toy-turns", *([] if "--algo=marie" in words else [MODEL]), *words)
    assert len(error.value.problems) == 1


def test_runs_without_a_model_are_what_they_were() -> None:
    """Their names, their phases and their random streams: literal ones of releases that had no models."""
    config = load_words("--algo=mappo", "--env=mpe-spread")
    assert run_name(config) == RUN_NAME and config.kinds["world_model"] == "none"
    assert "world_model.kind" in deciding_settings(config)
    trainer = make_trainer(tiny("mappo", "toy-corners"))
    assert list(trainer.phases) == ["collect", "infer", "fit_sharing", "learn"] and trainer.replay is None
    assert list(trainer.generators) == ["env", "exploration_env", "acting", "tasks", "contexts", "learner", "sharing"]
    assert trainer.system.spec is trainer.system.family.spec
    assert set(trainer.system.weights(0, 0)) == {"iteration", "env_steps", "encoder", "learner"}


# --- runs -------------------------------------------------------------------------------------------------------------


class Stop(Callback):
    """Leaves after the second iteration, by when the model has learned and been acted in."""

    def on_iteration(self, event: TrainingEvent) -> None:
        if event.iteration == 2:
            raise StopTraining("seen enough")


@pytest.mark.slow
def test_a_run_that_was_left_goes_on_bit_for_bit_and_draws_what_is_imagined(tmp_path: Path) -> None:
    words = [tiny_run(tmp_path / name, algo="mappo_model", env="toy-turns", n_iters=3) for name in ("whole", "left")]
    whole, left = (configure(*each) for each in words)
    assert train(whole).exit_code == 0 and train(left, [Stop()]).iteration == 2
    assert train(left).exit_code == 0
    assert remains(folder_of(words[0])) == remains(folder_of(words[1]))
    assert (folder_of(words[1]).figures / "imagination-train.png").stat().st_size > 0
