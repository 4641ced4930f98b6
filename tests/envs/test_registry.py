"""Is every registered family honest, and does the registry say what it has?"""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from envs import ENVS, families, make_family
from envs.check import check_family, unusual
from envs.core import MAX_TASKS, Scene, TaskFamily
from tests.representatives import one_per_kind

FIXED = ("mpe-world-tasks", "mujoco-ant-dir", "mujoco-cheetah-cripple")  # tasks are held out, but none is drawn
ORDERED = ("rware-color-published", "rware-2color")  # one task, but what is seen is in an order that is drawn
NEEDED: dict[str, dict[str, Any]] = {"pettingzoo": {"factory": "tests.envs.pettingzoo_envs:walk"}}


def family(name: str, seed: int = 0) -> TaskFamily:
    config = replace(ENVS[name][1], **NEEDED.get(name, {}))
    return make_family(name, config, np.random.default_rng(seed))


@pytest.mark.parametrize("name", one_per_kind(ENVS))
def test_the_family_is_honest_and_starts_and_seeds_differ(name: str) -> None:
    assert check_family(family(name)) == []
    assert unusual(family(name)) == []


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mpe-hunting", {"n_predators": 1, "n_preys": 1, "episode_steps": 2}),
        ("mpe-hunting", {"n_predators": 2, "n_preys": 3, "prey_noise": "original", "episode_steps": 10}),
        ("mpe-spread", {"n_agents": 1, "n_landmarks": 1, "episode_steps": 1}),
        ("mpe-spread", {"n_agents": 3, "n_landmarks": 6, "episode_steps": 10}),
        ("toy-corners", {"n_agents": 1, "start_spread": 1.0}),
        ("toy-turns", {"n_agents": 1, "n_actions": 2}),
    ],
)
def test_the_family_is_honest_at_other_sizes(name: str, settings: dict[str, Any]) -> None:
    config = replace(ENVS[name][1], **settings)
    assert check_family(make_family(name, config, np.random.default_rng(0))) == []


@pytest.mark.parametrize("name", ENVS)
def test_training_tasks_come_first_as_encoders_number_them_from_zero(name: str) -> None:
    splits = [task.split for task in family(name).tasks]
    assert "train" not in splits[splits.count("train") :]


@pytest.mark.parametrize("name", ["toy-corners", "mpe-spread", "mpe-spread-roles", "mpe-wind", "mpe-simple-spread"])
def test_agents_are_where_their_observations_say(name: str) -> None:
    played = family(name)
    env = played.make(2, torch.device("cpu"), torch.Generator().manual_seed(0))
    seen, scene = env.reset(torch.zeros(2, dtype=torch.int64)), env.scene(1)
    told = played.places(seen.obs[1])
    assert told is not None and isinstance(scene, Scene)
    drawn = [(marker.x, marker.y) for marker in scene.markers if marker.role == "agent"]
    torch.testing.assert_close(told, torch.tensor(drawn))


@pytest.mark.parametrize("name", ENVS)
def test_equal_generators_draw_equal_tasks_and_others_draw_others(name: str) -> None:
    first = family(name)
    assert first.fingerprint() == family(name).fingerprint()
    is_fixed = name in FIXED or (first.seen_only and not name.startswith(ORDERED))
    assert (first.fingerprint() == family(name, seed=1).fingerprint()) == is_fixed


@pytest.mark.parametrize("name", ENVS)
def test_every_setting_states_its_meaning_and_its_default_is_legal(name: str) -> None:
    config = ENVS[name][1]
    for entry in fields(config):
        value, rule = getattr(config, entry.name), entry.metadata
        assert rule["meaning"]
        assert rule["low"] is None or value >= rule["low"]
        assert rule["above"] is None or value > rule["above"]
        assert rule["high"] is None or value <= rule["high"]
        assert rule["choices"] is None or value in rule["choices"]


SHARED_BY_SETTINGS = [
    ("mpe-simple-spread", {"local_ratio": 0.0}, True),
    ("mpe-simple-spread", {"n_agents": 2}, True),
    ("mpe-simple-spread", {"n_agents": 3}, False),
    ("mpe-simple-reference", {"local_ratio": 0.0}, True),
    ("mpe-simple-reference", {}, False),
    ("mpe-simple-tag", {}, True),
    ("mpe-simple-tag", {"opponents": "learning"}, False),
    ("mpe-simple-adversary", {"opponents": "uniform"}, True),
    ("mpe-simple-adversary", {"opponents": "learning"}, False),
    ("rware-tiny-2ag", {"reward": "global"}, True),
    ("rware-tiny-2ag", {"reward": "two-stage"}, False),
]


@pytest.mark.parametrize(("name", "settings", "is_shared"), SHARED_BY_SETTINGS)
def test_whether_agents_have_rewards_of_their_own_follows_from_settings(
    name: str, settings: dict[str, Any], is_shared: bool
) -> None:
    made = make_family(name, replace(ENVS[name][1], **settings), np.random.default_rng(0))
    assert made.spec.shared_reward == is_shared
    assert check_family(made) == []


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(KeyError, match="no environment 'mpe-spred'; did you mean 'mpe-spread'"):
        make_family("mpe-spred", None, np.random.default_rng(0))


def test_no_name_is_registered_twice() -> None:
    tree = ast.parse(inspect.getsource(families))
    literals = [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]
    assert [len(literal.keys) for literal in literals] == [len(ENVS)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ENVS)
def test_the_family_is_honest_on_a_gpu(name: str) -> None:
    assert check_family(family(name), "cuda") == []


TOO_MANY = [
    ("mpe-spread", {"n_agents": 20, "n_landmarks": 40}, "n_agents=20, n_landmarks=40: these are 137846528820 tasks"),
    ("mpe-spread", {"n_agents": 500, "n_landmarks": 1000}, "these are about 10^299 tasks, and 10000 at most"),
    (
        "mpe-hunting",
        {"n_preys": 2_000},
        "n_preys=2000: 2000 tasks of 2000 features each are 4000000 numbers",
    ),
    ("mpe-wind", {"n_ood": 10**12}, "n_train=64, n_test=16, n_ood=1000000000000: these are 1000000000080 tasks"),
    ("mujoco-cheetah-vel", {"n_train": 9_981}, "n_train=9981, n_test=10, n_ood=10: these are 10001 tasks, and 10000"),
    ("mujoco-hopper-param", {"n_train": 981}, "n_train=981, .*each of these 1001 tasks is a model .*and 1000 at most"),
    ("mujoco-ant-dir", {"n_directions": 5_001}, "n_directions=5001: these are 10002 tasks, and 10000 at most"),
    ("mujoco-manysegmentswimmer-10x2", {"agent_conf": "90x90"}, "agent_conf='90x90': 8100 joints, and 400 at most"),
    (
        "rware-color",
        {"registration": "medium-16ag", "roles": "hidden", "max_tasks": 10**6},
        "max_tasks=1000000: these are 12870 tasks, and 10000 at most",
    ),
]


@pytest.mark.parametrize(("name", "settings", "message"), TOO_MANY)
def test_more_tasks_than_can_be_made_are_refused_before_any_is(
    name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message.replace("^", r"\^")) as raised:
        make_family(name, replace(ENVS[name][1], **settings), np.random.default_rng(0))
    assert "\n" not in str(raised.value)


def test_as_many_tasks_as_can_be_made_are_made() -> None:
    made = make_family(
        "mujoco-cheetah-vel", replace(ENVS["mujoco-cheetah-vel"][1], n_train=9_980), np.random.default_rng(0)
    )
    assert len(made.tasks) == MAX_TASKS
