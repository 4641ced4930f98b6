"""Are settings refused under which an encoder would learn nothing, or not what they say?"""

from __future__ import annotations

import re

import pytest
import torch

from envs.core import Refusal
from mg2l_kalei.config import ConfigError
from mg2l_kalei.training.system import build
from tests.training.trainers import load_words


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("objectives=[trajectory]", "trajectory takes contexts for trials; expected context.order=trial"),
        ("objectives=[mixture] context.order=trial context.length=1", "predicts a step from those before it"),
        ("objectives=[] encoder_epochs=0", "encoder.objectives=[] trains nothing"),
        ("objectives=[kl] posterior=deterministic encoder_epochs=0", "encoder.objectives=[kl] trains nothing"),
        ("objectives=[] learner=matd3", "encoder.objectives=[] trains nothing"),
        ("objectives=[] world_model=continuous real_rollouts=false", "encoder.objectives=[] trains nothing"),
        (
            "learner=matd3 trains_encoder=true world_model=continuous real_rollouts=false",
            "of imagined trials are given",
        ),
        ("objectives=[local] pooling=gaussian_product", "expected encoder.local_gradient=all_layers"),
        ("critic_kl_coef=0.1 learner=matd3", "encoder.critic_kl_coef=0.1: the learner's loss of values does not"),
        ("told=mean_std context.source=replay", "replay explores on latents; expected context.source=online"),
        ("pooling=regression objectives=[contrast,kl,local]", "no features without reward_prediction among"),
        ("objectives=[reward_prediction] reward_prediction_coef=0 encoder_epochs=0", "trains nothing"),
        ("objectives=[contrast] pairwise_coef=0 prototype_coef=0 encoder_epochs=0", "trains nothing"),
        ("tells_agents_apart=true pooling=gaussian_product", "gaussian_product is of agents that are alike"),
        ("tells_agents_apart=true prediction_coef=1", "prediction decodes what happens to all agents alike"),
        ("told=mean_std sampled=true", "what is told in full is not sampled"),
        ("told=mean_std posterior=deterministic", "posterior=deterministic has no deviation, and told=mean_std needs"),
        ("critic_kl_coef=0.1 posterior=deterministic", "has no deviation, and critic_kl_coef=0.1 needs"),
        (
            "local_objective=posterior_consistency posterior=deterministic",
            "and local_objective=posterior_consistency needs",
        ),
    ],
)
def test_settings_that_do_not_go_together(words: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)):
        load_words("--env=mpe-spread", *words.split())


def test_beliefs_of_episodes_need_trials_of_several() -> None:
    words, cpu = ("--algo=pearl", "--env=mpe-wind"), torch.device("cpu")
    assert build(load_words(*words), cpu).trial_steps == 200
    with pytest.raises(Refusal, match="trial_steps=100 is one episode"):
        build(load_words(*words, "trial_steps=100"), cpu)


@pytest.mark.parametrize("algo", ["varibad", "mate"])
def test_contexts_that_are_taken_for_trials_are_whole(algo: str) -> None:
    words = (f"--algo={algo}", "--env=rware-layout-large")  # whose contexts are parts of trials, of other recipes
    assert build(load_words(*words), torch.device("cpu")).config.context.length >= 200
    with pytest.raises(
        Refusal, match=r"context\.length=100: the encoder takes contexts for trials, which have 200 steps"
    ):
        build(load_words(*words, "context.length=100"), torch.device("cpu"))


def test_beliefs_of_episodes_are_not_resumed_in_imagination() -> None:
    with pytest.raises(ConfigError, match=r"^world_model\.kind=continuous: it begins in the midst of trials"):
        build(load_words("--algo=pearl", "--env=mpe-spread", "world_model=continuous"), torch.device("cpu"))
