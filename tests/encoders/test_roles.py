"""Is a task inferred that says who is paid for what, and is otherwise the same for all?"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from envs.core import TaskFamily
from envs.families import ENVS, make_family
from mg2l_kalei.buffers.contexts import ContextConfig
from mg2l_kalei.config.settings import rules
from mg2l_kalei.encoders.figures import nearest_neighbour_accuracy
from mg2l_kalei.encoders.mg2l import Mg2lConfig, Mg2lEncoder
from tests.encoders.test_departures import mg2l, streamed, with_departures
from tests.encoders.test_mg2l_learning import sampler
from tests.small_systems import as_contexts, generator, random_play, random_rollout, with_steps

POOLINGS = [pooling for pooling in rules(Mg2lConfig)["pooling"].choices or () if pooling != "gaussian_product"]
every_pooling = pytest.mark.parametrize("pooling", POOLINGS)


@every_pooling
def test_streaming_equals_batch(pooling: str) -> None:
    rollout = with_departures(random_rollout())
    encoder = mg2l(rollout, pooling=pooling, tells_agents_apart=True)
    batch = encoder.latents(rollout)
    torch.testing.assert_close(streamed(encoder, rollout), batch, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(encoder.encode(as_contexts(rollout)).global_, batch.global_[-1], rtol=1e-5, atol=1e-5)


@every_pooling
def test_who_lived_through_what_shows_in_z_and_not_in_what_each_infers_alone(pooling: str) -> None:
    rollout, order = random_rollout(), torch.tensor([2, 0, 1])
    encoder = mg2l(rollout, pooling=pooling, tells_agents_apart=True)
    of_agents = {name: getattr(rollout.steps, name)[:, :, order] for name in ("obs", "action", "reward", "next_obs")}
    before, after = encoder.latents(rollout), encoder.latents(with_steps(rollout, **of_agents))
    torch.testing.assert_close(after.local, before.local[:, :, order], rtol=1e-5, atol=1e-5)
    assert (before.global_[1:] - after.global_[1:]).abs().amax(-1).min() > 1e-4


# --- learning ---------------------------------------------------------------------------------------------------------


def three_in_four_tasks() -> TaskFamily:
    """Three agents, a landmark for each, which all see in the same way; four of the six permutations."""
    config = dataclasses.replace(ENVS["mpe-blind-spread-tasks"][1], n_groups=3, group_size=1, n_train=4, n_test=2)
    return make_family("mpe-blind-spread-tasks", config, np.random.default_rng(0))


def accuracy(z: Tensor, label: Tensor) -> float:
    """How often a latent's nearest neighbour in the other half (R / 2, dim) has the same label (R,)."""
    half = len(label) // 2
    return nearest_neighbour_accuracy(z[:half], label[:half], z[half:], label[half:]).item()


def inferred(tells_agents_apart: bool) -> tuple[float, float]:
    """Accuracies on other trials: of z, which task it is; of z^i, whose landmark is which, in tasks not trained on."""
    family = three_in_four_tasks()
    seen, unseen = (random_play(family, torch.arange(n) % 4, seed) for n, seed in ((256, 0), (128, 10)))
    held_out = random_play(family, 4 + torch.arange(128) % 2, 20)
    small: dict[str, Any] = {"latent_dim": 8, "hidden": (64, 64), "nested_contexts": False, "kl_coef": 0.01}
    config = dataclasses.replace(Mg2lConfig(), **small, pooling="regression", tells_agents_apart=tells_agents_apart)
    encoder = Mg2lEncoder(config, family.spec, family.features(), 4, generator())
    encoder.fit_normaliser(seen.transition)
    contexts = sampler(seen, family.spec, ContextConfig(batch=32, length=16))
    optimiser, stream = torch.optim.AdamW(encoder.parameters(), lr=2e-3), generator(1)
    for _ in range(300):
        loss, _ = encoder.loss(contexts.sample(stream), stream)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    own = torch.tensor([task.params["landmarks"] for task in family.tasks])[held_out.task]  # (R, N)
    with torch.no_grad():
        z, local = encoder.encode(unseen).global_, encoder.encode(held_out).local
    return accuracy(z, unseen.task), min(accuracy(local[:, n], own[:, n]) for n in range(3))


def test_agents_that_are_told_apart_infer_who_is_paid_for_what() -> None:
    of_task, of_own = inferred(tells_agents_apart=True)
    assert of_task > 0.9 and of_own > 0.9


def test_agents_that_are_alike_cannot() -> None:
    assert inferred(tells_agents_apart=False)[0] < 0.45  # of four tasks
