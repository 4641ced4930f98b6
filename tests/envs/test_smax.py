"""Are battles those of jaxmarl, told without it, won when the enemies are dead, and refused in one line without it?"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from envs import ENVS, make_family
from envs.check import check_family
from envs.core import Refusal, TaskFamily
from envs.smax.family import TARGETS, EnemiesConfig
from envs.smax.maps import MAPS, N_MOVES, STOP, UNIT_SIZE
from mg2l_kalei.evaluation.adaptation import episodes_won
from mg2l_kalei.training.phases import share_won
from tests.small_systems import random_rollout

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


def test_types_that_are_drawn_stand_in_what_a_unit_sees_of_itself() -> None:
    spec = family("smax-smacv2-5-units").spec
    assert spec.type_columns == family("smax-enemies").spec.type_columns == tuple(range(spec.obs_dim - 6, spec.obs_dim))
    assert family("smax-2s3z").spec.type_columns == ()


def test_maps_of_one_family_have_one_size() -> None:
    with pytest.raises(Refusal, match="as many allies and enemies on each; 3m has 3 v 3, 8m has 8 v 8"):
        EnemiesConfig(maps=("3m", "8m"))


@pytest.mark.slow
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


def jaxmarls_step(target: int) -> Callable[..., tuple[Any, ...]]:
    """Of one row of ours and its action: obs, state, reward, legal, alive, whether it is over, by jaxmarl's 2s3z."""
    smax: Any = pytest.importorskip("jaxmarl.environments.smax")
    import jax
    import jax.numpy as jnp

    given = {"max_steps": 100, "attack_mode": TARGETS[target]}
    reference = smax.HeuristicEnemySMAX(scenario=smax.map_name_to_scenario("2s3z"), **given)
    world = reference._env

    def step(row: Any, action: Any) -> tuple[Any, ...]:
        _, enemy_key, world_key = jax.random.split(row.key, 3)
        seen = world.get_obs_unit_list(row.battle)
        of_enemies = jnp.array([seen[agent] for agent in reference.enemy_agents])
        acts, _ = reference.get_enemy_actions(enemy_key, row.minds, of_enemies)
        both = (action, jnp.array([acts[agent] for agent in reference.enemy_agents]))
        decoded = (world._decode_discrete_actions(each) for each in both)
        joined = tuple(jnp.concatenate(parts) for parts in zip(*decoded, strict=True))
        obs, battle, reward, done, _ = world.step_env_no_decode(world_key, row.battle, joined)
        of_allies = (obs, world.get_avail_actions(battle), done)
        seen, legal, dead = (jnp.stack([of[agent] for agent in reference.agents]) for of in of_allies)
        return seen, obs["world_state"], reward["ally_0"], legal, ~dead, done["__all__"]

    return step


@pytest.mark.slow
@pytest.mark.parametrize("target", [0, 1])
def test_enemies_that_are_jaxmarls_make_its_steps(target: int) -> None:
    """Rows of 2s3z under random legal actions show, pay, allow and end what jaxmarl's do, given the same keys."""
    step = jaxmarls_step(target)
    import jax

    from envs.smax.battle import rules

    ours: Any = rules(("2s3z",), 30)
    expected_step, draws = jax.jit(jax.vmap(step)), np.random.default_rng(0)
    keys = draws.integers(0, 2**32, (4, 2), dtype=np.uint32)
    row, seen = ours.start(keys, np.array([[0, target, 0]] * 4, np.int32))
    for t in range(1, 41):
        can = np.asarray(seen.legal)
        action = np.array([[draws.choice(np.flatnonzero(one)) for one in each] for each in can], np.int32)
        obs, state, reward, legal, alive, is_over = expected_step(row, action)
        row, seen = ours.step(row, action)
        pairs = [(seen.obs, obs), (seen.state, state), (seen.reward[:, 0], reward), (seen.legal, legal)]
        pairs += [(seen.alive, alive), (seen.terminated, is_over)]
        pairs.append((seen.truncated, ~np.asarray(is_over) & (t >= 30)))
        for found, expected in pairs:
            np.testing.assert_array_equal(found, expected)
    assert seen.terminated.any()
    assert not seen.terminated.all()
    assert ours.step._cache_size() == 1, "compiled again"


@pytest.mark.slow
def test_enemies_shoot_at_the_weakest_in_range_until_it_is_dead() -> None:
    """One enemy of 3m, to whom its enemies show their share of health and their place, in its range of sight."""
    smax: Any = pytest.importorskip("jaxmarl.environments.smax")
    from jaxmarl.environments.smax.heuristic_enemy import get_heuristic_policy_initial_state

    from envs.smax.battle import _at_the_weakest

    env = smax.SMAX(scenario=smax.map_name_to_scenario("3m"))
    nobody = get_heuristic_policy_initial_state()

    def answer(action: int, last: int, health: list[float], away: list[float]) -> tuple[int, int]:
        units = np.zeros((5, UNIT_SIZE), np.float32)
        units[2:, 0], units[2:, 1] = health, away  # behind its two friends
        own = np.zeros(env.obs_size - units.size, np.float32)
        own[-env.unit_type_bits] = 1.0  # a marine, who sees 9 and shoots 5 far
        before = nobody.replace(last_attacked_enemy=last)
        given = (action, nobody, before, np.concatenate((units.ravel(), own)))
        acted, mind = _at_the_weakest(env, acting=given)
        return int(acted) - N_MOVES, int(mind.last_attacked_enemy)

    near, shoots = [0.5, 0.5, 0.5], N_MOVES  # at the first
    assert answer(shoots, -1, [0.9, 0.3, 0.6], near) == (1, 1)
    assert answer(shoots, -1, [0.9, 0.3, 0.6], [0.5, 0.6, 0.5]) == (2, 2), "the weakest is out of range"
    assert answer(shoots, -1, [0.9, 0.0, 0.6], near) == (2, 2), "the weakest is dead"
    assert answer(shoots, 0, [0.9, 0.3, 0.6], near) == (0, 0), "it shot at another before"
    assert answer(shoots, 0, [0.0, 0.3, 0.6], near) == (1, 1), "who is dead now"
    assert answer(STOP, 0, [0.9, 0.3, 0.6], [0.6, 0.6, 0.6]) == (STOP - N_MOVES, -1), "nobody is in range"


@pytest.mark.slow
def test_enemies_that_hold_never_move_and_others_do() -> None:
    pytest.importorskip("jaxmarl")
    from envs.smax.batch import BattleBatch

    enemies = family("smax-enemies")
    n = len(enemies.tasks)
    batch = enemies.make(n, torch.device("cpu"), torch.Generator().manual_seed(0))
    assert isinstance(batch, BattleBatch)
    batch.reset(torch.arange(n))
    moved = np.zeros(n, bool)
    for _ in range(30):
        batch.step(torch.full((n, 5), STOP))
        movement = np.asarray(batch._now[0].battle.prev_movement_actions)[:, 5:]
        moved |= np.abs(movement).sum((1, 2)) > 0
    assert moved.tolist() == [task.params["move"] == "chase" for task in enemies.tasks]


def test_an_episode_is_won_that_ends_before_its_time_with_somebody_alive() -> None:
    """Rows: won in the second step, then lost; out of time, then out of time."""
    rollout = random_rollout(n_steps=4, n_rows=2)
    ends = torch.tensor([[0, 0], [1, 1], [0, 0], [1, 1]], dtype=torch.bool)
    in_time = torch.tensor([True, False])
    alive = torch.ones_like(rollout.steps.next_alive)
    alive[3, 0] = False
    steps = rollout.steps._replace(
        terminated=ends & in_time, truncated=ends & ~in_time, next_alive=alive, episode_start=ends.roll(1, 0)
    )
    rollout = rollout._replace(steps=steps)
    assert episodes_won(rollout, 2).tolist() == [[1, 0], [0, 0]]
    assert share_won(rollout).item() == 1 / 4
