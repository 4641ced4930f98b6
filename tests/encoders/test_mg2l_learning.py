"""Do gradients of the encoder's loss reach what they should and nothing else, and does the encoder leave chance?"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from envs import ENVS, make_family
from envs.core import TaskFamily
from mg2l_kalei.buffers.contexts import ContextConfig
from mg2l_kalei.config.settings import rules
from mg2l_kalei.encoders.mg2l import Mg2lConfig, Mg2lEncoder
from mg2l_kalei.losses.inference import nearest_neighbour_accuracy
from mg2l_kalei.types import Contexts, Transition
from tests.small_systems import as_contexts, generator, make_encoder, random_play, random_rollout, sampler

RULES = rules(Mg2lConfig)
POOLINGS, OBJECTIVES = RULES["pooling"].choices or (), RULES["local_objective"].choices or ()
LOCAL_ALONE: dict[str, Any] = {
    "pairwise_coef": 0.0,
    "prototype_coef": 0.0,
    "kl_coef": 0.0,
    "reward_prediction_coef": 0.0,
}


def gradients(contexts: Contexts, **settings: Any) -> dict[str, Tensor]:
    """Of each parameter, by the encoder's own loss."""
    encoder = make_encoder("mg2l", **settings)
    loss, _ = encoder.loss(contexts, generator())
    loss.backward()
    return {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}


def moved_by(gradient: dict[str, Tensor]) -> set[str]:
    """The parts of the encoder that some gradient reaches."""
    return {name.split(".")[0] for name, value in gradient.items() if (value != 0).any()}


@pytest.fixture
def contexts() -> Contexts:
    return as_contexts(random_rollout(n_rows=6))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("pooling", [pooling for pooling in POOLINGS if pooling != "gaussian_product"])
def test_the_local_objective_trains_the_local_layer_alone(contexts: Contexts, pooling: str, objective: str) -> None:
    settings = {"pooling": pooling, "local_objective": objective, **LOCAL_ALONE}
    assert moved_by(gradients(contexts, **settings)) == {"local_layer"}
    moved = moved_by(gradients(contexts, **settings, local_gradient="all_layers"))
    features_alone = {"transition_encoder"} if pooling == "regression" else set()  # are trained by rewards alone
    assert moved == {"local_layer", "time_pooling", "transition_encoder"} - features_alone


def test_which_local_objective_there_is_changes_nothing_but_the_local_layer(contexts: Contexts) -> None:
    first, second = (gradients(contexts, local_objective=objective) for objective in OBJECTIVES)
    different = {name for name in first if not torch.equal(first[name], second[name])}
    assert different and all(name.startswith("local_layer.") for name in different)


def test_reward_prediction_trains_what_the_reward_has_not_yet_joined(contexts: Contexts) -> None:
    gradient = gradients(contexts, **LOCAL_ALONE | {"reward_prediction_coef": 1.0})
    moved = {".".join(name.split(".")[:2]) for name, value in gradient.items() if (value != 0).any()}
    assert not [name for name in gradient if ".last." in name and "reward_heads" not in name and gradient[name].any()]
    assert {name for name in moved if not name.startswith("local_layer")} == {
        "transition_encoder.body",
        "transition_encoder.last",
    }


def test_each_context_trains_its_own_tasks_reward_head(contexts: Contexts) -> None:
    gradient = gradients(contexts._replace(task=torch.tensor([2, 0, 2, 2, 0, 2])))
    assert (gradient["transition_encoder.last.reward_heads.weight"] != 0).any(-1).tolist() == [True, False, True]


def test_the_divergence_pulls_posteriors_to_the_prior(contexts: Contexts) -> None:
    encoder = make_encoder("mg2l", **LOCAL_ALONE | {"kl_coef": 1.0})
    optimiser = torch.optim.Adam(encoder.parameters(), lr=1e-2)
    divergences = []
    for _ in range(40):
        loss, metrics = encoder.loss(contexts, generator())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        divergences.append(float(metrics["encoder/kl"]))
    assert 0 <= divergences[-1] < 0.1 * divergences[0]


def test_nested_contexts_train_beginnings_too(contexts: Contexts) -> None:
    """Beginnings depend on the order of a context, which as a whole has none."""
    backwards = contexts._replace(transition=Transition(*(field.flip(0) for field in contexts.transition)))
    for nested in (False, True):
        encoder = make_encoder("mg2l", nested_contexts=nested, posterior="deterministic")
        forwards_loss, backwards_loss = (encoder.loss(order, generator())[0] for order in (contexts, backwards))
        assert torch.isclose(forwards_loss, backwards_loss, rtol=1e-4) != nested


# --- learning ---------------------------------------------------------------------------------------------------------


class Experience(NamedTuple):
    """What random teams live through in the corners: the task shows in rewards alone."""

    family: TaskFamily
    seen: Contexts
    unseen: Contexts


@pytest.fixture(scope="module")
def experience() -> Experience:
    family = make_family("toy-corners", ENVS["toy-corners"][1], np.random.default_rng(0))
    seen, unseen = (random_play(family, torch.arange(n) % len(family.tasks), seed) for n, seed in ((128, 0), (256, 10)))
    return Experience(family, seen, unseen)


def local_accuracy(encoder: Mg2lEncoder, contexts: Contexts) -> float:
    """Of the worst agent's own latent alone: how often its nearest neighbour in the other half is of the same task."""
    with torch.no_grad():
        local, half = encoder.encode(contexts).local.movedim(1, 0), len(contexts.task) // 2  # (N, R, dim)
    task, others = contexts.task[:half], contexts.task[half:]
    return min(nearest_neighbour_accuracy(of[:half], task, of[half:], others).item() for of in local)


VARIANTS: list[dict[str, str]] = [
    *({"pooling": pooling} for pooling in POOLINGS),
    *({"local_objective": objective} for objective in OBJECTIVES[1:]),
    {"posterior": "deterministic"},
]


@pytest.mark.parametrize("settings", VARIANTS, ids=lambda settings: next(iter(settings.values())))
def test_each_agents_own_latent_comes_to_tell_the_task(experience: Experience, settings: dict[str, str]) -> None:
    family, seen, unseen = experience
    small: dict[str, Any] = {"latent_dim": 8, "hidden": (32, 32), "window": 8, "nested_contexts": False, **settings}
    config = dataclasses.replace(Mg2lConfig(), **small)
    encoder = Mg2lEncoder(config, family.spec, family.features(), len(family.tasks), generator())
    encoder.fit_normaliser(seen.transition)
    contexts = sampler(seen, family.spec, ContextConfig(batch=32, length=8))
    optimiser, stream = torch.optim.AdamW(encoder.parameters(), lr=2e-3), generator(1)
    before = local_accuracy(encoder, unseen)
    for _ in range(400 if settings.get("pooling") == "transformer" else 200):  # which learns, but later
        loss, _ = encoder.loss(contexts.sample(stream), stream)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert local_accuracy(encoder, unseen) > max(0.6, before + 0.2)


def test_a_restored_encoder_infers_as_the_saved_one() -> None:
    rollout = random_rollout()
    saved, restored = make_encoder("mg2l"), make_encoder("mg2l", seed=1)
    saved.fit_normaliser(rollout.transition)
    restored.load_state_dict(saved.state_dict())
    assert torch.equal(restored.latents(rollout).local, saved.latents(rollout).local)
    assert torch.equal(restored.latents(rollout).global_, saved.latents(rollout).global_)
