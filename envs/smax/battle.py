"""Battles of ``jaxmarl`` as functions of rows, which JAX compiles once per maps and number of rows.

A row's key is drawn when its episode starts, and all its chances follow from it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxmarl.environments.smax import SMAX, map_name_to_scenario
from jaxmarl.environments.smax.heuristic_enemy import create_heuristic_policy, get_heuristic_policy_initial_state

from envs.smax.maps import N_MOVES, STOP, UNIT_SIZE

Array = Any  # of JAX; with an axis B in front outside of this module's single-row functions


class Row(NamedTuple):
    """One battle."""

    key: Array
    battle: Any  # jaxmarl's state
    minds: Any  # of each enemy, where it goes and whom it shot at
    target: Array  # () int32   whom enemies shoot at: the closest, a random one, the weakest
    holds: Array  # () int32   1: enemies stay where they are


class Seen(NamedTuple):
    """What a row shows. Fields as in ``StepResult``; after a start, nothing is paid, and nothing ends."""

    obs: Array
    state: Array
    reward: Array
    terminated: Array
    truncated: Array
    legal: Array
    alive: Array


class Rules(NamedTuple):
    """Functions of B rows."""

    start: Callable[..., tuple[Row, Seen]]  # keys (B, 2) uint32, numbers of map, target and moves (B, 3) int32
    restart: Callable[..., tuple[Row, Seen]]  # the same, where (B,) bool, and the rows and what they showed before
    step: Callable[..., tuple[Row, Seen]]  # rows, actions (B, N) int32


@lru_cache
def rules(maps: tuple[str, ...], episode_steps: int) -> Rules:
    """Of battles on maps of one size, by their names in jaxmarl."""
    envs = [SMAX(scenario=map_name_to_scenario(name), max_steps=episode_steps) for name in maps]
    env = envs[0]  # maps of one size differ in starts alone
    policies = [create_heuristic_policy(env, 1, attack_mode=mode) for mode in ("closest", "random")]

    def start(key: Array, numbers: Array) -> tuple[Row, Seen]:
        key, start_key = jax.random.split(key)
        starts = [one.reset(start_key)[1] for one in envs]
        battle = jax.tree.map(lambda *each: jnp.stack(each)[numbers[0]], *starts)
        minds = jax.tree.map(lambda *each: jnp.stack(each), *[get_heuristic_policy_initial_state()] * env.num_enemies)
        row = _strong(Row(key, battle, minds, numbers[1], numbers[2]))
        return row, _seen(env, row, jnp.float32(0), ends=False)

    def restart(key: Array, numbers: Array, where: Array, old: tuple[Row, Seen]) -> tuple[Row, Seen]:
        return jax.tree.map(lambda new, before: jnp.where(where, new, before), start(key, numbers), old)

    def step(row: Row, action: Array) -> tuple[Row, Seen]:
        key, enemy_key, world_key = jax.random.split(row.key, 3)
        acts, minds = _enemies_act(env, policies, row, enemy_key)
        decoded = env._decode_discrete_actions(jnp.concatenate((action, acts)))
        _, battle, reward, _, _ = env.step_env_no_decode(world_key, row.battle, decoded)
        row = _strong(row._replace(key=key, battle=battle, minds=minds))
        return row, _seen(env, row, reward[env.agents[0]].astype(jnp.float32), ends=True)

    return Rules(jax.jit(jax.vmap(start)), jax.jit(jax.vmap(restart)), jax.jit(jax.vmap(step)))


def _strong(row: Row) -> Row:
    """The row, none of its arrays weakly typed: JAX compiles anew where that changes from a start to a step."""
    return jax.tree.map(lambda array: jax.lax.convert_element_type(array, jnp.asarray(array).dtype), row)


def _seen(env: SMAX, row: Row, reward: Array, *, ends: bool) -> Seen:
    battle, n = row.battle, env.num_allies
    by_agent, legal = env.get_obs(battle), env.get_avail_actions(battle)
    allies, enemies = battle.unit_alive[:n], battle.unit_alive[n:]
    is_over = (~allies.any() | ~enemies.any()) & ends
    return Seen(
        obs=jnp.stack([by_agent[agent] for agent in env.agents[:n]]),
        state=env.get_world_state(battle).astype(jnp.float32),
        reward=jnp.full(n, reward),
        terminated=is_over,
        truncated=(battle.step >= env.max_steps) & ~is_over & ends,
        legal=jnp.stack([legal[agent] for agent in env.agents[:n]]).astype(bool),
        alive=allies,
    )


def _enemies_act(env: SMAX, policies: list[Any], row: Row, key: Array) -> tuple[Array, Any]:
    """Actions (E,) int32 of the enemies, and their minds after that."""
    by_agent = env.get_obs_unit_list(row.battle)
    obs = jnp.stack([by_agent[agent] for agent in env.agents[env.num_allies :]])
    keys = jax.random.split(key, env.num_enemies)
    acts = [jax.vmap(policy)(keys, row.minds, obs) for policy in policies]
    acts.append(jax.vmap(lambda *given: _at_the_weakest(env, acting=given))(*acts[0], row.minds, obs))
    action, minds = jax.tree.map(lambda *each: jnp.stack(each)[row.target], *acts)
    holds = (row.holds == 1) & (action < N_MOVES)
    return jnp.where(holds, STOP, action).astype(jnp.int32), minds


def _at_the_weakest(env: SMAX, *, acting: tuple[Array, Any, Any, Array]) -> tuple[Array, Any]:
    """What one enemy does that would shoot at the closest, if it shoots at the weakest instead (by share of health).

    ``acting``: that action, the mind after it, the mind before, and what the enemy sees.
    """
    action, mind, before, obs = acting
    first, end = (env.num_enemies - 1) * UNIT_SIZE, (env.num_allies + env.num_enemies - 1) * UNIT_SIZE
    units = obs[first:end].reshape(env.num_allies, UNIT_SIZE)
    kind = jnp.argmax(obs[-env.unit_type_bits :])
    away = jnp.linalg.norm(units[:, 1:3], axis=-1) * env.unit_type_sight_ranges[kind]
    can_shoot = (units[:, 0] > 0) & (away < env.unit_type_attack_ranges[kind])
    last = before.last_attacked_enemy
    stays = (last != -1) & can_shoot[last]
    chosen = jnp.where(stays, last, jnp.argmin(jnp.where(can_shoot, units[:, 0], jnp.inf)))
    mind = mind.replace(last_attacked_enemy=jnp.where(can_shoot.any(), chosen, -1))
    return jnp.where(action >= N_MOVES, chosen + N_MOVES, action), mind
