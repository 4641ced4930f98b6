"""Is what MATD3 does with Kaleidoscope's critics what the authors' own modules do? Arrays of theirs, in float64."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from envs.core import EnvSpec
from mg2l_kalei.buffers.steps import Transitions
from mg2l_kalei.learners.base import Setup
from mg2l_kalei.learners.matd3 import Matd3, Matd3Config
from mg2l_kalei.learners.optimiser import Optimiser
from mg2l_kalei.networks import NetworkConfig
from mg2l_kalei.sharing.kaleidoscope import PUBLISHED, KaleidoscopeSharing
from mg2l_kalei.types import TaskLatent
from tests.small_systems import generator, make_encoder

GOLDEN = {
    name: torch.from_numpy(array)
    for name, array in np.load(Path(__file__).parents[1] / "golden" / "kalei_matd3.npz").items()
}
SPEC = EnvSpec(
    n_agents=3, obs_dim=6, state_dim=9, action_dim=2, is_discrete=False, episode_steps=25, shared_reward=True
)
CONFIG = Matd3Config(actor_steps="in_turn", critic_sharing="kaleidoscope", max_grad_norm=math.inf)


def theirs(network: nn.Module) -> dict[str, nn.Parameter]:
    """Our network's parameters, by the names of theirs."""
    named = {}
    for ours, parameter in network.named_parameters():
        name = ours.removeprefix("body.").replace("output.", "fc3.").replace("thresholds", "sparse_thresholds")
        for depth in range(2):
            name = name.replace(f"hidden.{depth}.0.", f"fc{depth + 1}.")
            name = name.replace(f"hidden.{depth}.1.scale.value", f"layer_norm{depth + 1}.weight")
            name = name.replace(f"hidden.{depth}.1.shift.value", f"layer_norm{depth + 1}.bias")
        named[name] = parameter
    return named


def loaded(network: nn.Module, name: str) -> None:
    network.double()
    with torch.no_grad():
        for key, parameter in theirs(network).items():
            assert parameter.shape == GOLDEN[f"{name}.{key}"].shape
            parameter.copy_(GOLDEN[f"{name}.{key}"])


class Made(NamedTuple):
    """A step of an optimiser."""

    loss: float
    diversity: float
    coefficient: float
    gradients: dict[str, Tensor]


def make_learner() -> Matd3:
    """The authors' networks, in our learner."""
    network = NetworkConfig(hidden=(16, 12), agent_id=False)
    masks = dataclasses.replace(PUBLISHED, diversity_coef=0.1)
    setup = Setup(
        network,
        SPEC,
        make_encoder("none", SPEC),
        lambda: KaleidoscopeSharing(masks, range(3), generator()),
        generator(),
    )
    learner = Matd3(CONFIG, setup)
    for sharing in learner.sharings():
        assert isinstance(sharing, KaleidoscopeSharing)
        sharing.main_losses, sharing.diversities = sharing.main_losses.double(), sharing.diversities.double()
    for name, network_ in learner.networks.items():
        loaded(network_, name)
        loaded(learner.targets[name][name], f"target_{name}")
    learner.actor_network.bound = GOLDEN["high"].expand(3, 2)
    assert torch.equal(GOLDEN["low"], -GOLDEN["high"])
    for targets in learner.targets.values():
        targets.take_buffers()
    return learner


def data(name: str) -> Tensor:
    return GOLDEN[f"data.{name}"]


BATCH = Transitions(
    obs=data("obs").transpose(0, 1),
    state=data("state"),
    latent=TaskLatent(torch.zeros(7, 0).double(), torch.zeros(7, 3, 0).double()),
    action=data("action").transpose(0, 1),
    legal=None,
    alive=torch.ones(7, 3, dtype=torch.bool),
    value=data("reward"),
    discount=data("gamma") * (1 - data("term")),
    next_obs=data("next_obs").transpose(0, 1),
    next_state=data("next_state"),
    next_latent=TaskLatent(torch.zeros(7, 0).double(), torch.zeros(7, 3, 0).double()),
    next_legal=None,
    next_alive=torch.ones(7, 3, dtype=torch.bool),
)


@pytest.fixture
def their_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter(GOLDEN["target_noise"])
    monkeypatch.setattr("mg2l_kalei.learners.matd3.normal_noise", lambda like, _: next(draws).transpose(0, 1))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Made]:
    """What is noted of each step of an optimiser."""
    made: list[Made] = []
    step = Optimiser.step

    def watched(self: Optimiser, loss: Tensor, **given: Any) -> Any:
        metrics = step(self, loss, **given)
        sharing = "sharing/" if self.name == "actor" else "sharing/critic_"
        diversity, coefficient = (float(metrics[sharing + name]) for name in ("diversity", "coefficient"))
        gradients = {name: p.grad.clone() for name, p in theirs(self.network).items() if p.grad is not None}
        made.append(Made(float(loss.detach()), diversity, coefficient, gradients))
        return metrics

    monkeypatch.setattr(Optimiser, "step", watched)
    return made


def is_theirs(step: Made, loss: float, diversity: float, coefficient: float, *_: float) -> bool:
    """Their diversity is the term of the loss, -J."""
    ours = [step.loss, -step.diversity, step.coefficient]
    return ours == pytest.approx([loss, diversity, coefficient], rel=1e-10, abs=1e-10)


def close(ours: Tensor, name: str) -> bool:
    return torch.allclose(ours, GOLDEN[name], rtol=1e-10, atol=1e-10)


def same(ours: Mapping[str, Tensor], name: str) -> bool:
    """Whether all parameters, or gradients, are theirs."""
    return all(close(tensor.detach(), f"{name}.{key}") for key, tensor in ours.items())


@pytest.mark.usefixtures("their_noise")
def test_values_actions_and_targets_are_theirs() -> None:
    learner = make_learner()
    assert close(learner.values_of(BATCH, BATCH.action).transpose(0, 1), "q")
    assert close(learner.actor_network(BATCH.obs, BATCH.latent.local).transpose(0, 1), "policy_action")
    assert close(learner.target_values(BATCH, generator()), "y")


@pytest.mark.usefixtures("their_noise")
def test_their_first_update_is_ours(steps: list[Made]) -> None:
    learner = make_learner()
    learner.learn_from(BATCH, generator())
    (step,) = steps
    assert same(step.gradients, "critic_grad1") and is_theirs(step, *GOLDEN["critic_losses"][0].tolist())
    assert same(theirs(learner.critic), "critic_after1")
    assert same(theirs(learner.actor_network), "actor")  # not its turn yet, nor that of targets
    assert same(theirs(learner.targets["critic"]["critic"]), "target_critic")


@pytest.mark.usefixtures("their_noise")
def test_their_second_update_is_ours(steps: list[Made]) -> None:
    """The actors' too: an Adam step for each agent, on weights that they share, in turn; then targets move."""
    learner = make_learner()
    for _ in range(2):
        learner.learn_from(BATCH, generator())
    _, critic, *actors = steps
    assert is_theirs(critic, *GOLDEN["critic_losses"][1].tolist())
    assert all(is_theirs(step, *losses) for step, losses in zip(actors, GOLDEN["actor_losses"].tolist(), strict=True))
    assert same(actors[0].gradients, "actor_grad0")
    assert same(theirs(learner.actor_network), "actor_after2")
    assert same(theirs(learner.critic), "critic_after2")
    for name in ("actor", "critic"):
        moved = theirs(learner.targets[name][name])
        for key in ("fc1.weight", "fc3.sparse_thresholds"):
            assert close(moved[key], f"target_{name}_after2.{key}"), (name, key)
