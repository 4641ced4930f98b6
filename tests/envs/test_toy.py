"""Do the toy families have the optima that they state?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from envs.core import EnvBatch, Observation, StepResult
from envs.toy import Corners, CornersConfig, Turns, TurnsConfig

CPU = torch.device("cpu")
Policy = Callable[[Observation | StepResult], Tensor]


def play(batch: EnvBatch, tasks: Tensor, policy: Policy) -> tuple[Tensor, Observation]:
    """Returns of one episode, averaged over agents, (B,), and the start."""
    start = batch.reset(tasks)
    total = torch.zeros(len(tasks))
    last: Observation | StepResult = start
    for _ in range(batch.spec.episode_steps):
        last = result = batch.step(policy(last))
        total += result.reward.mean(-1)
    assert result.truncated.all()
    return total, start


def turns(**settings: int) -> Turns:
    return Turns("toy-turns", TurnsConfig(**settings), np.random.default_rng(0))


def corners() -> Corners:
    return Corners("toy-corners", CornersConfig(), np.random.default_rng(0))


@pytest.mark.parametrize(("n_agents", "n_actions"), [(2, 4), (3, 5)])
def test_turns_pays_exactly_one_per_step_to_agents_that_take_turns(n_agents: int, n_actions: int) -> None:
    family = turns(n_agents=n_agents, n_actions=n_actions)
    batch = family.make(32, CPU, torch.Generator().manual_seed(0))
    turn = torch.arange(n_agents)
    returns, _ = play(batch, torch.zeros(32, dtype=torch.int64), lambda last: (last.obs.argmax(-1) + turn) % n_actions)
    assert (returns == family.optimal_return).all()


def test_turns_pays_half_to_agents_that_all_do_the_same() -> None:
    family = turns()
    batch = family.make(32, CPU, torch.Generator().manual_seed(0))
    returns, _ = play(batch, torch.zeros(32, dtype=torch.int64), lambda last: last.obs.argmax(-1))
    assert (returns == family.indistinct_return).all()
    assert family.indistinct_return == family.optimal_return / 2


def test_turns_forbids_one_action_at_a_time_and_never_a_paid_one() -> None:
    batch = turns().make(64, CPU, torch.Generator().manual_seed(0))
    last: Observation | StepResult = batch.reset(torch.zeros(64, dtype=torch.int64))
    forbidden = set()
    for _ in range(8):
        assert last.legal is not None
        assert (last.legal.sum(-1) == 3).all()
        paid = (last.obs.argmax(-1) + torch.arange(2)) % 4
        assert last.legal.gather(-1, paid[..., None]).all()
        forbidden |= set(((~last.legal[:, 0]).int().argmax(-1) - last.obs[:, 0].argmax(-1)).remainder(4).tolist())
        last = batch.step(paid)
    assert forbidden == {2, 3}


def test_turns_refuses_too_few_actions() -> None:
    with pytest.raises(ValueError, match="n_actions=2 is not more than n_agents=2"):
        turns(n_actions=2)


def test_corners_pays_an_informed_team_its_stated_optimum() -> None:
    family = corners()
    tasks = torch.arange(32) % 4
    goal = family.features()[tasks]
    batch = family.make(32, CPU, torch.Generator().manual_seed(0))
    returns, start = play(batch, tasks, lambda last: goal[:, None].expand(-1, 2, -1))
    expected = family.informed_return(start.state.view(32, 2, 2), goal)
    torch.testing.assert_close(returns, expected)
    assert returns.mean() > 0.2 * family.uninformed_return


def test_corners_pays_nobody_more_who_knows_less() -> None:
    family = corners()
    tasks = torch.arange(400) % 4
    chance = torch.Generator().manual_seed(1)
    policies: dict[str, Policy] = {
        "to the middle": lambda last: -last.obs[..., :2] / family.config.max_step,
        "to one corner": lambda last: torch.ones(400, 2, 2),
        "at random": lambda last: torch.randn(400, 2, 2, generator=chance),
    }
    means = {}
    for name, policy in policies.items():
        batch = family.make(400, CPU, torch.Generator().manual_seed(0))
        means[name] = play(batch, tasks, policy)[0].mean().item()
    assert means["to the middle"] == pytest.approx(family.uninformed_return, rel=1e-3)
    assert max(means["to one corner"], means["at random"]) < family.uninformed_return
