"""Does every family play as PettingZoo has it, and does it play what the family's own batch plays?"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pettingzoo.test import parallel_api_test

from envs import ENVS
from envs.core import Refusal
from envs.parallel import FamilyEnv, make_parallel_env
from mg2l_kalei import configure
from mg2l_kalei.training.system import family_of
from tests.representatives import one_per_kind

NEEDED: dict[str, dict[str, Any]] = {"pettingzoo": {"factory": "tests.envs.pettingzoo_envs:masked"}}


@pytest.mark.parametrize("observes_mask", [False, True])
@pytest.mark.parametrize("name", one_per_kind(ENVS))
def test_the_family_passes_pettingzoos_test(name: str, observes_mask: bool, elsewhere: Path) -> None:
    env = make_parallel_env(name, observes_mask=observes_mask, tells_task=True, **NEEDED.get(name, {}))
    with warnings.catch_warnings(action="error", category=UserWarning):
        parallel_api_test(env, num_cycles=60)


def played(env: FamilyEnv, seed: int, **options: Any) -> list[Any]:
    """All that an episode of random actions shows."""
    shown: list[Any] = list(env.reset(seed=seed, options=options))
    chance = np.random.default_rng(0)
    while env.agents:
        boxes = {agent: env.action_space(agent) for agent in env.agents}
        for box in boxes.values():
            box.seed(int(chance.integers(2**31)))
        shown += [*env.step({agent: box.sample() for agent, box in boxes.items()}), env.state()]
    return shown


def test_a_seed_gives_an_episode_again() -> None:
    env = make_parallel_env("mpe-wind", tells_task=True)
    first, other, again = (played(env, seed) for seed in (1, 2, 1))
    np.testing.assert_equal(again, first)
    with pytest.raises(AssertionError):
        np.testing.assert_equal(other, first)


def test_without_a_seed_each_environment_is_another() -> None:
    first, second = (make_parallel_env("mpe-wind", task=0).reset()[0]["agent_0"] for _ in range(2))
    assert (first != second).any()


@pytest.mark.parametrize("name", ["mpe-simple-tag", "mujoco-ant-4x2"])
def test_it_plays_what_the_familys_batch_plays(name: str, elsewhere: Path) -> None:
    """Sizes, rewards and dynamics, with agents whose sizes differ."""
    settings: dict[str, Any] = {"opponents": "learning"} if "tag" in name else {}
    env = make_parallel_env(name, task=0, episode_steps=5, **settings)
    family, spec, generator = env.family, env.family.spec, torch.Generator()
    batch = family.make(1, torch.device("cpu"), generator)
    seeds = np.random.SeedSequence(7).generate_state(2, np.uint64).tolist()
    generator.manual_seed(seeds[0])
    views, _ = env.reset(seed=7)
    record: Any = batch.reset(torch.zeros(1, dtype=torch.int64))
    while True:
        for n, agent in enumerate(env.possible_agents):
            assert views[agent].shape == (spec.obs_sizes or (spec.obs_dim,) * spec.n_agents)[n : n + 1]
            np.testing.assert_array_equal(views[agent], record.obs[0, n, : len(views[agent])])
        np.testing.assert_array_equal(env.state(), record.state[0])
        if not env.agents:
            break
        actions = {agent: env.action_space(agent).sample() for agent in env.agents}
        joint = torch.zeros(1, spec.n_agents, 1 if spec.is_discrete else spec.action_dim)
        for n, agent in enumerate(env.agents):
            joint[0, n, : np.size(actions[agent])] = torch.as_tensor(actions[agent])
        record = batch.step(joint[..., 0].long() if spec.is_discrete else joint)
        views, rewards, gone, late, _ = env.step(actions)
        assert list(rewards.values()) == record.reward[0].tolist()
        assert {*gone.values()} == {bool(record.terminated)}
        assert {*late.values()} == {bool(record.truncated)}


def test_the_task_is_the_one_given_or_drawn_from_the_split() -> None:
    env = make_parallel_env("mpe-wind", task=3, tells_task=True, n_train=4, n_test=3, n_ood=2)
    family = env.family
    assert {env.reset(seed=seed)[1]["agent_0"]["task"] for seed in range(5)} == {3}
    info = env.reset(options={"task": 8})[1]["agent_1"]
    assert info["task"] == 8
    np.testing.assert_array_equal(info["task_features"], np.array(family.tasks[8].features, np.float32))
    of_test = FamilyEnv(family, split="test", tells_task=True)
    assert {int(of_test.reset()[1]["agent_0"]["task"]) for _ in range(50)} == set(family.task_ids("test").tolist())


def test_what_is_hidden_is_told_on_demand_alone() -> None:
    assert make_parallel_env("mpe-wind").reset()[1] == {"agent_0": {}, "agent_1": {}}


def test_the_tasks_are_those_of_a_training_run_with_that_seed() -> None:
    run = family_of(configure("--env=mpe-wind", "seed=5"))
    assert make_parallel_env("mpe-wind", task_seed=5).family.fingerprint() == run.fingerprint()


def test_agents_that_leave_are_terminated_while_others_go_on() -> None:
    keywords = ["leaves=[2,0] max_cycles=4"]
    env = make_parallel_env("pettingzoo", factory="tests.envs.pettingzoo_envs:walk", train=keywords)
    env.reset(seed=0)
    ends = []
    while env.agents:
        views, rewards, gone, late, infos = env.step(dict.fromkeys(env.agents, 1))
        assert views.keys() == rewards.keys() == infos.keys() == gone.keys()
        ends.append((gone, late))
    assert ends == [
        ({"walker_0": False, "seer_0": False}, {"walker_0": False, "seer_0": False}),
        ({"walker_0": True, "seer_0": False}, {"walker_0": False, "seer_0": False}),
        ({"seer_0": False}, {"seer_0": False}),
        ({"seer_0": False}, {"seer_0": True}),
    ]
    assert env.step({}) == ({}, {}, {}, {}, {})


def test_masks_stand_in_infos_or_in_observations() -> None:
    env, masked = (
        make_parallel_env("pettingzoo", observes_mask=is_on, **NEEDED["pettingzoo"]) for is_on in (False, True)
    )
    view, info = (part["seer_0"] for part in env.reset(seed=0))
    assert view.shape == (4,) and info["action_mask"].tolist() == [1, 0, 1]
    view, info = (part["seer_0"] for part in masked.reset(seed=0))
    assert not info and view["action_mask"].tolist() == [1, 0, 1]
    assert masked.observation_space("seer_0").contains(view)


REFUSED = [
    ({"n_agnts": 2}, r"mpe-spread has no setting n_agnts; did you mean n_agents\?"),
    ({"n_agents": 0}, "n_agents=0: agents.*: low 1"),
    ({"landmarks": "square"}, "landmarks='square': .*: choices "),
    ({"task": 99}, "task=99: mpe-spread has tasks 0 to "),
    ({"task": True}, "task=True: mpe-spread has tasks 0 to "),
    ({"task": "x"}, "task='x': mpe-spread has tasks 0 to "),
    ({"episode_steps": "a"}, "episode_steps='a': expected a value like the default, 100"),
    ({"n_agents": True}, "n_agents=True: expected a value like the default, 2"),
]


def test_numbers_of_numpy_are_taken_as_numbers() -> None:
    numbers: dict[str, Any] = {"task": np.int64(1), "n_agents": np.int64(3), "n_landmarks": np.int32(4)}
    of_numpy = make_parallel_env("mpe-spread", **numbers)
    plain = make_parallel_env("mpe-spread", task=1, n_agents=3, n_landmarks=4)
    shown, again = (env.reset(seed=0)[0] for env in (of_numpy, plain))
    assert all(np.array_equal(shown[agent], again[agent]) for agent in plain.agents) and len(plain.agents) == 3


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_what_there_is_not_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        make_parallel_env("mpe-spread", **settings)


def test_a_split_a_task_and_an_action_that_there_is_not_are_refused() -> None:
    with pytest.raises(KeyError, match="has no split 'test'"):
        make_parallel_env("toy-arms", split="test")
    env = make_parallel_env("toy-arms")
    with pytest.raises(Refusal, match=r"task=\[3\]: toy-arms has tasks 0 to 2"):
        env.reset(options={"task": 3})
    env.reset()
    with pytest.raises(ValueError, match="action 3 of agent_1: it has actions 0 to 2"):
        env.step({"agent_0": 0, "agent_1": 3})
