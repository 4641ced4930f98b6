"""Are battles those of jaxmarl, told without it, won when the enemies are dead, and refused in one line without it?"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch

from envs import ENVS, make_family
from envs.check import check_family
from envs.core import Refusal, TaskFamily
from envs.smax.family import EnemiesConfig
from envs.smax.maps import MAPS

NAMES = [name for name in ENVS if name.startswith("smax-")]


def family(name: str) -> TaskFamily:
    return make_family(name, ENVS[name][1], np.random.default_rng(0))


def test_no_family_needs_jax_to_say_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("jax", "jaxmarl"):
        monkeypatch.setitem(sys.modules, package, None)
    assert [family(name).spec.n_agents for name in ("smax-3m", "smax-2s3z", "smax-enemies")] == [3, 5, 5]


def test_playing_without_it_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jaxmarl", None)
    with pytest.raises(Refusal, match=r"^jaxmarl is not installed: pip install 'mg2l_kalei\[smax\]'$"):
        family("smax-3m").make(2, torch.device("cpu"), torch.Generator())


def test_agents_have_types_where_these_never_change() -> None:
    assert family("smax-2s3z").spec.agent_types == (0, 0, 1, 1, 1)
    assert family("smax-3m").spec.agent_types == family("smax-smacv2-5-units").spec.agent_types == ()
    assert family("smax-enemies").spec.agent_types == ()


def test_maps_of_one_family_have_one_size() -> None:
    with pytest.raises(Refusal, match="as many allies and enemies on each; 3m has 3 v 3, 8m has 8 v 8"):
        EnemiesConfig(maps=("3m", "8m"))


def test_the_sizes_written_down_are_those_of_jaxmarl() -> None:
    smax: Any = pytest.importorskip("jaxmarl.environments.smax")
    for one in MAPS.values():
        env = smax.SMAX(scenario=smax.map_name_to_scenario(one.registered))
        assert (env.num_allies, env.num_enemies, env.num_ally_actions) == (one.n_allies, one.n_enemies, one.n_actions)
        assert (env.obs_size, env.state_size) == (one.obs_dim, one.state_dim)
        if one.ally_types is not None:
            assert env.scenario[: one.n_allies].tolist() == list(one.ally_types)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smax-3m", "smax-enemies"])
def test_the_family_is_honest(name: str) -> None:
    assert check_family(family(name)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smax-3m"])
def test_standing_still_loses_and_pays_nobody_for_winning(name: str) -> None:
    batch = family(name).make(4, torch.device("cpu"), torch.Generator().manual_seed(0))
    batch.reset(torch.zeros(4, dtype=torch.int64))
    for _ in range(100):
        result = batch.step(torch.full((4, 3), 4))
        assert not result.reward.any()
        if result.terminated.any():
            break
    assert result.terminated.any() and not result.alive[result.terminated].any()
