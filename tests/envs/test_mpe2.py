"""Is simple_spread that of mpe2, step by step?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mpe2 import simple_spread_v3
from torch import Tensor

from envs.mpe.simple_spread import SimpleSpread, SimpleSpreadBatch, SimpleSpreadConfig, SimpleSpreadState

N_EPISODES = 125  # for each number of agents, kind of actions and precision
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


def batch(n_rows: int, dtype: torch.dtype, **settings: Any) -> SimpleSpreadBatch:
    family = SimpleSpread("mpe-simple-spread", SimpleSpreadConfig(**settings), np.random.default_rng(0))
    return family.make(n_rows, torch.device("cpu"), torch.Generator().manual_seed(0), dtype)


def played_by_mpe2(n_agents: int, is_discrete: bool, local_ratio: float) -> dict[str, Tensor]:
    """Episodes of random actions: every entity's start, and per step actions, observations, rewards (E, T, N, *)."""
    env = simple_spread_v3.parallel_env(N=n_agents, local_ratio=local_ratio, continuous_actions=not is_discrete)
    raw, chance = env.unwrapped, np.random.default_rng(n_agents)
    episodes: dict[str, list[Any]] = {name: [] for name in ("pos", "landmarks", "action", "obs", "reward")}
    for episode in range(N_EPISODES):
        env.reset(seed=episode)
        episodes["pos"].append([agent.state.p_pos.copy() for agent in raw.world.agents])
        episodes["landmarks"].append([landmark.state.p_pos.copy() for landmark in raw.world.landmarks])
        steps: dict[str, list[Any]] = {name: [] for name in ("action", "obs", "reward")}
        while env.agents:
            action = chance.integers(5, size=n_agents) if is_discrete else chance.random((n_agents, 5), np.float32)
            _, reward, *_ = env.step(dict(zip(env.possible_agents, action, strict=True)))
            steps["action"].append(action)
            steps["obs"].append([raw.scenario.observation(agent, raw.world) for agent in raw.world.agents])
            steps["reward"].append([reward[name] for name in env.possible_agents])
        for name, values in steps.items():
            episodes[name].append(values)
    return {name: torch.tensor(np.array(values)) for name, values in episodes.items()}


@pytest.mark.parametrize(
    ("n_agents", "is_discrete", "local_ratio"), [(1, True, 0.5), (2, False, 0.5), (3, True, 0.5), (5, False, 0.2)]
)
def test_positions_observations_and_rewards_are_those_of_mpe2(
    n_agents: int, is_discrete: bool, local_ratio: float
) -> None:
    played = played_by_mpe2(n_agents, is_discrete, local_ratio)
    action = played["action"]
    if not is_discrete:  # ours is the force; theirs is a thrust to each side
        action = torch.stack((action[..., 2] - action[..., 1], action[..., 4] - action[..., 3]), dim=-1)
    settings = {"n_agents": n_agents, "is_discrete": is_discrete, "local_ratio": local_ratio}
    for dtype, tolerance in TOLERANCE.items():
        rows = batch(N_EPISODES, dtype, **settings)
        pos = played["pos"].to(dtype)
        elapsed = torch.zeros(N_EPISODES, dtype=torch.int64)
        rows.now = SimpleSpreadState(pos, torch.zeros_like(pos), played["landmarks"].to(dtype), elapsed)
        for t in range(action.shape[1]):
            result = rows.step(action[:, t] if is_discrete else action[:, t].to(dtype))
            torch.testing.assert_close(result.obs, played["obs"][:, t].to(dtype), atol=tolerance, rtol=tolerance)
            torch.testing.assert_close(result.reward, played["reward"][:, t].to(dtype), atol=tolerance, rtol=tolerance)
            if dtype == torch.float32:  # contacts are stiff: rounding would grow from step to step
                vel, pos = played["obs"][:, t, :, :4].to(dtype).split(2, dim=-1)
                rows.now = rows.now._replace(pos=pos, vel=vel)
        assert result.truncated.all()
