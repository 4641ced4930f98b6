"""Where types are drawn for each episode: does each agent act by what its type has learned, and by nothing else?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from envs import ENVS, make_family
from mg2l_kalei.config import ConfigError, load
from mg2l_kalei.networks import Memory, NetworkConfig, RunningMoments, team_network
from mg2l_kalei.sharing import SHARINGS, ParameterSharing, team_sharing
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA, build
from mg2l_kalei.types import Rollout
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

COLUMNS, N, OUT = (1, 3), 3, 2
SPEC = DISCRETE._replace(type_columns=COLUMNS)
KINDS = [kind for kind, (_, config) in SHARINGS.items() if hasattr(config, "members")]


def sharing_of(kind: str) -> ParameterSharing:
    return team_sharing(kind, dataclasses.replace(SHARINGS[kind][1], members="types"), SPEC, generator())


def seen(types: Tensor) -> Tensor:
    """Observations (..., N, obs_dim) of agents of these types (..., N)."""
    x = draw(*types.shape, SPEC.obs_dim)
    x[..., list(COLUMNS)] = F.one_hot(types, len(COLUMNS)).float()
    return x


def played() -> Rollout:
    """Two episodes, for each of which types are drawn."""
    rollout = random_rollout(SPEC, 2 * SPEC.episode_steps)
    types = torch.randint(2, (2, 1, 4, N), generator=generator(1)).expand(2, SPEC.episode_steps, 4, N).flatten(0, 1)
    obs, after = rollout.steps.obs.clone(), rollout.steps.next_obs.clone()
    obs[..., list(COLUMNS)] = after[..., list(COLUMNS)] = F.one_hot(types, 2).float()
    return with_steps(rollout, obs=obs, next_obs=after)


@pytest.mark.parametrize("kind", KINDS)
def test_each_agent_is_answered_by_its_type(kind: str) -> None:
    sharing = sharing_of(kind)
    assert (sharing.n_places, sharing.n_members) == (2, 2)
    network = team_network(sharing, SPEC.obs_dim, OUT, NetworkConfig(hidden=(8,)), place_id=True)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * draw(*parameter.shape))
    types = torch.tensor([[0, 1, 1], [1, 0, 0], [1, 1, 1]])
    x = seen(types)
    y = network(x)
    for row, agent in [(0, 0), (0, 1), (1, 2), (2, 0)]:
        both = network.network(x[row, agent].expand(2, -1))
        torch.testing.assert_close(y[row, agent], both[types[row, agent]])
    assert not torch.allclose(both[0], both[1], atol=1e-3)


@pytest.mark.parametrize("kind", ["independent", "kaleidoscope"])
def test_a_sequence_is_remembered_as_step_by_step(kind: str) -> None:
    network = team_network(sharing_of(kind), SPEC.obs_dim, OUT, NetworkConfig(hidden=(8,), memory="episode"))
    types = torch.tensor([[0, 1, 1], [1, 0, 0]])
    x = seen(types.expand(5, 2, N))
    start = torch.zeros(5, 2, dtype=torch.bool)
    start[0], start[3, 1] = True, True
    whole, states = network(x, Memory(draw(2, N, 8), start))
    state = torch.zeros(2, N, 8)
    for t in range(5):
        state = torch.where(start[t][:, None, None], 0.0, state)
        y, (state,) = network(x[t][None], Memory(state))
        torch.testing.assert_close(whole[t], y[0])
        torch.testing.assert_close(states[t], state)


def test_agents_that_are_members_see_what_they_saw_without_columns_of_types() -> None:
    rollout, networks = played(), []
    for spec in (SPEC, DISCRETE):
        made = make_learner(make_encoder("none", spec), spec, sharing="kaleidoscope")
        update(made, make_encoder("none", spec), acted_by(made, make_encoder("none", spec), rollout))
        networks.append(made.networks["actor"].state_dict())
    assert networks[0].keys() == networks[1].keys()
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


def test_columns_of_types_are_not_standardised() -> None:
    moments = RunningMoments(SPEC.obs_dim, kept=COLUMNS)
    x = seen(torch.randint(2, (50, N), generator=generator()))
    moments.update(x)
    normal = moments.normalise(x)
    assert torch.equal(normal[..., list(COLUMNS)], x[..., list(COLUMNS)])
    assert normal[..., 0].mean().abs() < 1e-5


@pytest.mark.parametrize("learner", ["mappo", "qmix", "matd3"])
@pytest.mark.parametrize("memory", ["none", "episode"])
def test_masks_of_types_learn(learner: str, memory: str) -> None:
    if learner == "matd3" and memory != "none":
        pytest.skip("has no memory")
    encoder = make_encoder("none", SPEC)
    settings: dict[str, Any] = {"memory": memory, "hidden": (16,)}
    if learner == "mappo":
        settings |= {"critic_input": "obs", "n_epochs": 1, "n_minibatches": 1}
    made = make_learner(encoder, SPEC, kind=learner, sharing="kaleidoscope", members="types", **settings)
    rollout = acted_by(made, encoder, played())
    before = [parameter.clone() for parameter in made.networks["actor"].parameters()]
    metrics = update(made, encoder, rollout)
    assert all(torch.as_tensor(value).isfinite().all() for value in metrics.values())
    assert float(metrics.get("train/first_ratio_error", 0.0)) < 1e-5  # learned from as it was acted
    after = list(made.networks["actor"].parameters())
    thresholds = [(old, new) for old, new in zip(before, after, strict=True) if new.dim() == 3 and len(new) == 2]
    assert thresholds and all((old[kind] != new[kind]).any() for old, new in thresholds for kind in (0, 1))


@pytest.mark.parametrize(
    ("algo", "word", "said"),
    [
        ("mappo", "network.memory=trial", "goes across episodes"),
        ("mappo", "network.task_gates=true", "gates are of agents"),
        ("mappo_model", "seed=0", "a world model imagines types that are none"),
    ],
)
def test_what_belongs_to_agents_is_refused(algo: str, word: str, said: str) -> None:
    words = [f"--algo={algo}", "--env=smax-smacv2-5-units", "sharing=kaleidoscope", "sharing.members=types", word]
    config = load(words, SCHEMA, Path(CONFIG_DIR)).config
    with pytest.raises(ConfigError, match=said):
        build(config, torch.device("cpu"))


def test_continuous_actions_are_refused_whose_deviations_are_of_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--algo=mappo", "--env=toy-corners", "sharing=kaleidoscope", "sharing.members=types"]
    family = make_family("toy-corners", ENVS["toy-corners"][1], np.random.default_rng(0))
    family.spec = family.spec._replace(type_columns=(0, 1))
    monkeypatch.setattr("mg2l_kalei.training.system.family_of", lambda config: family)
    with pytest.raises(ConfigError, match="actions are continuous here"):
        build(load(words, SCHEMA, Path(CONFIG_DIR)).config, torch.device("cpu"))
