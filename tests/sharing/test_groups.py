"""Are agents that should act alike found, and do they then share weights, and nothing else change?"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from envs.core import TaskFamily
from envs.mpe.blind_spread import BlindSpread, BlindSpreadConfig, BlindSpreadTasks, BlindSpreadTasksConfig
from envs.rware.published import Published, PublishedConfig
from mg2l_kalei.buffers.trials import ReplayConfig, TrialReplay
from mg2l_kalei.networks import GroupedMlp, NetworkConfig
from mg2l_kalei.sharing.found import FoundGroups
from mg2l_kalei.sharing.grouping import (
    FIELDS,
    GroupingConfig,
    Groups,
    adjusted_rand,
    clusters,
    find_groups,
    matched,
    settled,
)
from mg2l_kalei.sharing.independent import SepsConfig, SepsSharing
from mg2l_kalei.sharing.kaleidoscope import KaleidoscopeConfig, KaleidoscopeSharing, masked_layers
from mg2l_kalei.types import Clock, Step
from tests.small_systems import as_steps, generator, random_play
from tests.training.trainers import make_trainer, tiny

QUICK = 800  # updates
START = Clock(0, 0, 10**6)


def blind_spread(version: int = 1) -> BlindSpread:
    return BlindSpread("mpe-blind-spread", BlindSpreadConfig(version, episode_steps=20), np.random.default_rng(0))


def played(family: TaskFamily, n_rows: int = 64) -> TrialReplay:
    """Trials of random play, over all training tasks."""
    steps: Step = as_steps(
        random_play(family, task := torch.arange(n_rows) % len(family.splits["train"]), 0).transition
    )
    spec = family.spec
    replay = TrialReplay(ReplayConfig(capacity=n_rows), spec, len(steps.obs), FIELDS, torch.device("cpu"))
    replay.add(steps, task)
    return replay


@pytest.fixture(scope="module")
def replay() -> TrialReplay:
    return played(blind_spread())


def test_groups_and_their_number_are_found_from_random_play(replay: TrialReplay) -> None:
    family = blind_spread()
    found = find_groups(replay, family.spec, GroupingConfig(group_updates=QUICK), generator())
    assert adjusted_rand(family.true_groups, found.of_agents) == 1.0
    assert found.of_agents == family.true_groups and found.silhouette > 0.6


@pytest.mark.parametrize("registration", ["tiny-4ag", pytest.param("medium-16ag", marks=pytest.mark.slow)])
def test_colours_of_published_warehouses_are_found_from_random_play(registration: str) -> None:
    """Random play hardly delivers anything, but what an action does depends on the colour."""
    config = PublishedConfig(registration=registration, episode_steps=50)
    family = Published("rware-color-published", config, np.random.default_rng(0))
    found = find_groups(played(family), family.spec, GroupingConfig(group_updates=2000), generator())
    assert found.of_agents == family.true_groups and found.silhouette > 0.6


@pytest.mark.slow
def test_groups_are_found_though_the_task_decides_which_landmark_is_whose() -> None:
    config = BlindSpreadTasksConfig(n_groups=3, group_size=3, n_train=4, n_test=2, episode_steps=20)
    family = BlindSpreadTasks("mpe-blind-spread-tasks", config, np.random.default_rng(0))
    found = find_groups(played(family), family.spec, GroupingConfig(n_groups=3, group_updates=3000), generator())
    assert adjusted_rand(family.true_groups, found.of_agents) == 1.0


def points(sizes: tuple[int, ...]) -> Tensor:
    noise = 0.05 * torch.randn(sum(sizes), 4, generator=generator())
    return noise + torch.eye(4).repeat_interleave(torch.tensor(sizes), 0)[: sum(sizes)]


@pytest.mark.parametrize(
    ("n_groups", "expected"),
    [
        (0, (0, 0, 0, 1, 1, 1, 2, 2, 3, 3)),
        (1, (0,) * 10),
        (10, tuple(range(10))),
        (99, tuple(range(10))),
        (4, (0, 0, 0, 1, 1, 1, 2, 2, 3, 3)),
    ],
)
def test_any_number_of_groups_from_one_to_all_can_be_asked_for(n_groups: int, expected: tuple[int, ...]) -> None:
    found = settled(10, n_groups) or clusters(points((3, 3, 2, 2)), n_groups, 10, seed=0)[0]
    assert found == expected


@pytest.mark.parametrize("n_agents", [1, 2])
def test_one_or_two_agents_are_as_many_groups(n_agents: int) -> None:
    assert settled(n_agents, 0) == tuple(range(n_agents))


def test_groups_keep_the_numbers_under_which_most_of_their_agents_learned() -> None:
    assert matched((0, 0, 1, 1, 1), (3, 3, 0, 0, 0), 4) == (3, 3, 0, 0, 0)
    assert matched((0, 1, 1, 1, 2), (0, 0, 2, 2, 2), 4)[:4] == (0, 2, 2, 2)


@pytest.mark.parametrize("kind", ["seps", "kaleidoscope"])
def test_after_a_fit_agents_of_a_group_share_and_weights_are_as_before(replay: TrialReplay, kind: str) -> None:
    family = blind_spread()
    config: GroupingConfig = SepsConfig(n_groups=3, group_updates=QUICK)
    scheme: type[FoundGroups] = SepsSharing
    if kind == "kaleidoscope":
        scheme = KaleidoscopeSharing
        config = KaleidoscopeConfig(
            members="groups", n_groups=3, threshold_bias=0.5, threshold_scale=2.0, group_updates=QUICK
        )
    sharing = scheme(config, scheme.members_of(config, family.spec), generator())
    network = GroupedMlp(sharing, 6, 5, NetworkConfig(hidden=(16,)))
    before = copy.deepcopy(dict(network.named_parameters()))
    assert sharing.needs_fit(replay, START) and not sharing.needs_fit(None, START)
    sharing.fit(network, sharing.find(replay, family.spec, generator()), START)
    assert sharing.told["sharing/n_groups"] == 3 and sharing.groups == family.true_groups
    assert all(torch.equal(before[name], parameter) for name, parameter in network.named_parameters())
    acts = network(torch.ones(1, 15, 6))[0]
    alike = (acts[:, None] - acts).abs().amax(-1) < 1e-6
    group = torch.tensor(family.true_groups)
    assert torch.equal(alike, group[:, None] == group)


def test_groups_are_looked_for_once_or_each_interval(replay: TrialReplay) -> None:
    family, config = blind_spread(), SepsConfig(n_groups=3, group_updates=1)
    for interval, again in ((0, False), (1000, True)):
        chosen = dataclasses.replace(config, refit_interval=interval)
        sharing = SepsSharing(chosen, SepsSharing.members_of(chosen, family.spec), generator())
        network = sharing.linear(4, 4, gain=1.0)
        sharing.fit(network, sharing.find(replay, family.spec, generator()), Clock(0, 500, 10**6))
        assert not sharing.needs_fit(replay, Clock(1, 1499, 10**6))
        assert sharing.needs_fit(replay, Clock(2, 1500, 10**6)) == again


def test_the_same_trials_and_random_numbers_give_the_same_groups(replay: TrialReplay) -> None:
    family, config = blind_spread(), GroupingConfig(group_updates=50)
    first, again = (find_groups(replay, family.spec, config, generator(3)) for _ in range(2))
    assert first.latents is not None and again.latents is not None
    assert first.of_agents == again.of_agents and torch.equal(first.latents, again.latents)


def test_groups_that_are_given_or_loaded_are_not_looked_for_again(replay: TrialReplay) -> None:
    family, config = blind_spread(), SepsConfig(n_groups=3, group_updates=1)
    members = SepsSharing.members_of(config, family.spec)
    fitted, loaded = (SepsSharing(config, members, generator()) for _ in range(2))
    source, network = (sharing.linear(4, 4, gain=1.0) for sharing in (fitted, loaded))
    network.load_state_dict(source.state_dict())
    loaded.on_loaded(network)
    assert loaded.needs_fit(replay, START)  # nobody has looked yet
    fitted.fit(source, fitted.find(replay, family.spec, generator()), START)
    network.load_state_dict(source.state_dict())
    loaded.on_loaded(network)
    assert loaded.groups == fitted.groups and not loaded.needs_fit(replay, START)
    one = find_groups(replay, family.spec, GroupingConfig(n_groups=1, group_updates=10**9), generator())
    assert set(one.of_agents) == {0}


def test_nothing_is_looked_for_in_the_last_interval(replay: TrialReplay) -> None:
    family, config = blind_spread(), SepsConfig(n_groups=3, group_updates=1, refit_interval=100)
    sharing = SepsSharing(config, SepsSharing.members_of(config, family.spec), generator())
    sharing.fit(sharing.linear(4, 4, gain=1.0), sharing.find(replay, family.spec, generator()), Clock(0, 0, 1000))
    assert sharing.needs_fit(replay, Clock(8, 899, 1000)) and not sharing.needs_fit(replay, Clock(9, 900, 1000))


def test_masks_that_no_group_uses_count_for_nothing(replay: TrialReplay) -> None:
    family = blind_spread()
    rare: dict[str, Any] = {"threshold_bias": 0.5, "threshold_scale": 2.0}
    config = KaleidoscopeConfig(members="groups", n_groups=0, max_groups=6, group_updates=1, **rare)
    sharing = KaleidoscopeSharing(config, KaleidoscopeSharing.members_of(config, family.spec), generator())
    network = GroupedMlp(sharing, 6, 5, NetworkConfig(hidden=(16,)))
    sharing.found = (0, 0, 2) * 5
    alone = KaleidoscopeSharing(KaleidoscopeConfig(**rare), range(2), generator())
    pair = GroupedMlp(alone, 6, 5, NetworkConfig(hidden=(16,)))
    for ours, theirs in zip(masked_layers(network), masked_layers(pair), strict=True):
        theirs.weight.data, theirs.thresholds.data = ours.weight.data, ours.thresholds.data[[0, 2]]
    loss = torch.tensor(1.0)
    torch.testing.assert_close(sharing.loss(network, loss)[0], alone.loss(pair, loss)[0])
    assert sharing.metrics(network)["sharing/mask_difference"] == alone.metrics(pair)["sharing/mask_difference"]
    assert "sharing/mask_difference_0_2" in sharing.metrics(network)


@pytest.mark.parametrize(
    ("old", "new", "moved"),
    [
        ((0, 0, 0, 0, 1), (0, 0, 0, 1, 0), [4]),  # 3 takes over a number that 4 has left
        ((0, 0, 1, 1, 2), (1, 0, 0, 2, 2), [1, 3]),
    ],
)
def test_who_is_moved_to_a_number_that_others_had_takes_its_own_weights_along(
    old: tuple[int, ...], new: tuple[int, ...], moved: list[int]
) -> None:
    spec = blind_spread().spec._replace(n_agents=5)
    sharing = SepsSharing(SepsConfig(), SepsSharing.members_of(SepsConfig(), spec), generator())
    network = GroupedMlp(sharing, 6, 5, NetworkConfig(hidden=(16,)))
    sharing.fit(network, Groups(old, None, 0.0), START)
    x = torch.randn(4, 5, 6, generator=generator())
    before = network(x)
    sharing.fit(network, Groups(new, None, 0.0), START)
    changed = (network(x) - before).abs().amax((0, 2)) > 1e-6
    assert changed.nonzero().flatten().tolist() == moved


def test_nothing_is_learned_from_the_rollout_that_groups_were_found_in() -> None:
    trainer = make_trainer(tiny("seps", "mpe-spread-roles"))
    actor = trainer.system.learner.actor
    before = copy.deepcopy(dict(actor.named_parameters()))
    first = trainer.iterate()
    assert all(torch.equal(before[name], parameter) for name, parameter in actor.named_parameters())
    second = trainer.iterate()
    moved = [not torch.equal(before[name], parameter) for name, parameter in actor.named_parameters()]
    schemes = [optimiser.sharing.groups for optimiser in trainer.system.learner.optimisers.values()]
    assert len(schemes) == 2 and schemes[0] == schemes[1] is not None
    assert "train/surrogate" not in first and float(second["train/first_ratio_error"]) < 1e-5 and any(moved)
    assert first["sharing/n_groups"] == second["sharing/n_groups"] and "sharing/adjusted_rand" in second


@pytest.mark.parametrize(
    ("scheme", "config"),
    [(SepsSharing, SepsConfig()), (KaleidoscopeSharing, KaleidoscopeConfig(members="groups"))],
)
def test_a_group_that_is_split_off_goes_on_from_its_parent_and_nobody_else_is_changed(scheme: Any, config: Any) -> None:
    """Agents 0 to 4 are one group and 5 to 9 another; then 3 and 4 leave the first."""
    spec = blind_spread().spec._replace(n_agents=10)
    sharing = scheme(config, scheme.members_of(config, spec), generator())
    network = GroupedMlp(sharing, 6, 5, NetworkConfig(hidden=(16,)))
    adam = torch.optim.Adam(sharing.parameter_groups(network), lr=0.1)
    sharing.fit(network, Groups((0,) * 5 + (1,) * 5, None, 0.0), START, adam)
    x = torch.randn(4, 10, 6, generator=generator())
    network(x).square().sum().backward()
    adam.step()
    before = network(x).detach()
    sharing.fit(network, Groups((0,) * 3 + (1,) * 2 + (2,) * 5, None, 0.0), START, adam)
    new = sharing.found
    assert new[0] == 0 and new[5] == 1 and new[3] not in (0, 1)
    torch.testing.assert_close(network(x), before)
    for module in network.modules():
        for name in getattr(module, "of_members", ()):
            if isinstance(module.places, Tensor):
                remembered = adam.state[module.get_parameter(name)]["exp_avg"]
                assert torch.equal(remembered[new[3]], remembered[0])
