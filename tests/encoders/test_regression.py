"""Does inference by regression find the weights that rewards have, also those of tasks that it was not trained on?"""

from __future__ import annotations

import dataclasses
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs.core import EnvSpec
from mg2l_kalei.encoders.mg2l import Mg2lConfig, Mg2lEncoder
from mg2l_kalei.encoders.regression import MIN_NOISE, RegressionPooling, RewardFeatures
from mg2l_kalei.types import Contexts, Transition
from tests.small_systems import draw, generator

N_FEATURES, T = 4, 30


def test_what_is_read_is_the_posterior_mean_of_a_linear_regression() -> None:
    pooling, embeddings = RegressionPooling(N_FEATURES, N_FEATURES, generator()), draw(T, 3, N_FEATURES + 1)
    alive = torch.ones(T, 3, dtype=torch.bool)
    known = (
        pooling.prefixes(embeddings, torch.tensor([0, 2, T]), alive) @ pooling.output.weight.inverse().T
    )  # (3, 3, n)
    for place, length in enumerate((0, 2, T)):
        for column in range(3):
            f, y = np.split(embeddings[:length, column].double().numpy(), [N_FEATURES], axis=-1)
            ridge = np.linalg.inv(np.eye(N_FEATURES) + f.T @ f) @ f.T @ y  # the textbook's
            np.testing.assert_allclose(known[place, column].detach(), ridge[:, 0], rtol=1e-3, atol=1e-4)


def test_features_are_scaled_to_the_spread_of_tasks_and_to_the_noise() -> None:
    """By the embeddings' own formula, rewards differ from task to task as the predictions do."""
    layer, known, reward = RewardFeatures(6, N_FEATURES, 50, generator()), draw(T, 6), draw(T, 1, seed=1)
    layer.noise.fill_(0.25)
    features, beyond = layer(known, reward).split((N_FEATURES, 1), dim=-1)
    torch.testing.assert_close(beyond, (reward - layer.common(known)) / 0.5)
    weights = layer.weights - layer.weights.mean(0)
    predicted = layer.features(known) @ weights.T  # (T, n_tasks)
    torch.testing.assert_close(features.square().sum(-1) * 0.25, predicted.square().mean(-1), rtol=0.05, atol=1e-3)


def test_noise_follows_the_error_and_never_vanishes() -> None:
    layer, known, task = RewardFeatures(6, N_FEATURES, 3, generator()), draw(T, 6), torch.zeros(T, 1, dtype=torch.int64)
    reward = draw(T, 1, seed=1)
    with torch.no_grad():
        for _ in range(200):
            error = layer.error(known, reward, task)
        torch.testing.assert_close(layer.noise, error, rtol=1e-3, atol=0)
        layer.noise.zero_()
        assert layer(known, reward).abs().max() <= (1 + layer.common(known).abs().max() + 10) / MIN_NOISE**0.5


def test_embeddings_carry_no_gradient_to_features() -> None:
    layer = RewardFeatures(6, N_FEATURES, 3, generator())
    assert not layer(draw(T, 6), draw(T, 1)).requires_grad
    assert layer.error(draw(T, 6), draw(T, 1), torch.zeros(T, 1, dtype=torch.int64)).requires_grad


# --- tasks never seen -------------------------------------------------------------------------------------------------


class Bids(NamedTuple):
    """Three of six numbers are paid, in the square: which, is the task. Those from ``n_train`` on are held out."""

    masks: Tensor  # (20, 6)
    n_train: int

    def play(self, tasks: range, n_rows: int, seed: int) -> Contexts:
        task = torch.arange(n_rows) % len(tasks) + tasks.start
        obs, action, next_obs = draw(16, n_rows, 2, 6, seed=seed), draw(16, n_rows, 2, 2), draw(16, n_rows, 2, 6)
        reward = (obs.square() * self.masks[task][:, None]).sum(-1)
        start, alive = torch.arange(16).unsqueeze(-1).expand(16, n_rows) == 0, torch.ones_like(reward, dtype=torch.bool)
        return Contexts(Transition(obs, action, reward, next_obs, start, alive), task)


def bids() -> Bids:
    order = np.random.default_rng(0).permutation(20)
    masks = [[float(place in chosen) for place in range(6)] for chosen in combinations(range(6), 3)]
    return Bids(torch.tensor(masks)[order], 15)


def held_out_accuracy(pooling: str) -> float:
    """Share of the paid numbers' variance that a linear map of z^0, fitted on training tasks, explains on others."""
    family = bids()
    spec = EnvSpec(n_agents=2, obs_dim=6, state_dim=6, action_dim=2, is_discrete=False, episode_steps=16)
    config = dataclasses.replace(Mg2lConfig(), pooling=pooling, hidden=(64, 64, 32), latent_dim=8)
    encoder = Mg2lEncoder(config, spec, family.masks, family.n_train, generator())
    optimiser, stream = torch.optim.AdamW(encoder.parameters(), lr=5e-3), generator(1)
    encoder.fit_normaliser(family.play(range(15), 300, seed=5).transition)
    for update in range(120):
        loss, _ = encoder.loss(family.play(range(15), 60, seed=100 + update), stream)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def latents(contexts: Contexts) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            z = encoder.encode(contexts).local[:, 0]
        return torch.cat([z, torch.ones(len(z), 1)], dim=1), family.masks[contexts.task]

    fit = torch.linalg.lstsq(*latents(family.play(range(15), 600, seed=2))).solution
    z, masks = latents(family.play(range(15, 20), 200, seed=3))
    return 1 - float((z @ fit - masks).square().sum() / (masks - 0.5).square().sum())


def test_tasks_never_seen_are_inferred_between_those_that_were() -> None:
    assert held_out_accuracy("regression") > 0.8
    assert held_out_accuracy("attention_head") < 0.4
