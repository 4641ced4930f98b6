"""Is what an environment answers read as PettingZoo means it, or refused in a line that says what was wrong?"""

from __future__ import annotations

import re
import signal

import numpy as np
import pytest
import torch

from envs.core import EnvFailure, Interruption
from envs.pettingzoo.answers import number
from envs.pettingzoo.batch import PettingZooBatch
from envs.pettingzoo.factory import Complaint, make_env
from tests.envs.pettingzoo_envs import Compass
from tests.envs.pettingzoo_families import acted, batch, family

FAULTS = "tests.envs.pettingzoo_faults"
LATE = 5  # the first step that is none of the trial's

COMPLAINTS = {
    "no infos": "step() gave 4 values: it must return (observations, rewards, terminations, truncations, infos)",
    "None as answer": "step() gave a NoneType: it must return (",
    "None as infos": "step() gave None as infos: they must be a dict by agent",
    "a number as info": "the info of walker_0 is 1 number: it must be a dict",
    "no observation": "the environment gave no observation of ",
    "None as observation": "the environment gave None as observation of seer_0",
    "narrow observation": "seer_0 observed 1 number, where its space is Box(-inf, inf, (4,), float32)",
    "wide observation": "seer_0 observed 9 numbers, where its space is Box(-inf, inf, (4,), float32)",
    "text as observation": "seer_0 observed 'all quiet', where its space is Box(-inf, inf, (4,), float32)",
    "no reward": "the environment gave no reward of walker_0",
    "None as reward": "the environment gave None as reward of walker_0",
    "two rewards": "the reward of walker_0 is 2 numbers: it must be a number",
    "text as reward": "the reward of walker_0 is '1.0': it must be a number",
    "None as termination": "the termination of walker_0 is None: it must be true or false",
    "short mask": "the action mask of walker_0 has 1 entry, 3 actions",
    "text as mask": "the action mask of walker_0 is 'all': it must be an array",
    "stranger": "agents has stranger, where possible_agents has walker_0, seer_0 alone",
    "short state": "state() gave 1 number, 2 at the start",
    "raise signs": "RuntimeError: \\x1b[2Jall is well (",
    "interrupt": "KeyboardInterrupt: (pettingzoo_faults.py, line ",
    "sys.exit": "SystemExit: 0 (pettingzoo_faults.py, line ",
}


def before_it_fails(how: str) -> tuple[PettingZooBatch, torch.Tensor]:
    """A batch whose environment fails in the next step with these actions."""
    rows, action = batch(f"{FAULTS}:fails", train=(f"how={how}",)), torch.ones(1, 2, dtype=torch.int64)
    acted(rows, *[(1, 1)] * (LATE - 1))
    return rows, action


@pytest.mark.parametrize("how", COMPLAINTS)
def test_what_is_not_as_pettingzoo_has_it_is_said_in_one_line(how: str) -> None:
    rows, action = before_it_fails(how)
    place = rf"pettingzoo, task 'how={re.escape(how)}', seed \d+: "
    with pytest.raises(EnvFailure, match=f"^{place}{re.escape(COMPLAINTS[how])}"):
        rows.step(action)


@pytest.mark.parametrize("how", COMPLAINTS)
def test_what_goes_wrong_at_once_is_said_before_there_is_a_family(how: str) -> None:
    place = re.escape(f"{FAULTS}:fails, task 'how={how} step=2': ")
    with pytest.raises(ValueError, match=f"^{place}{re.escape(COMPLAINTS[how])}"):
        family(f"{FAULTS}:fails", train=(f"how={how} step=2",))


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ("old reset", "reset() gave a dict: it must return (observations, infos)"),
        ("no infos", "reset() gave None as infos: they must be a dict by agent"),
        ("no agents", "reset() left no agents"),
        ("no agent sees", "the environment gave no observation of "),
        ("no mask", "walker_0 observed no action_mask, which its space has"),
        (
            "foreign space",
            f"walker_0 observes a {FAULTS}.ForeignBox, which is none of gymnasium.spaces: import gymnasium.spaces",
        ),
        ("text as state", "state() gave 'all quiet': it must be an array of numbers, or of its state_space"),
    ],
)
def test_a_start_that_is_none_is_said_before_there_is_a_family(how: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"task 'how={how}': {complaint}")):
        family(f"{FAULTS}:starts", train=(f"how={how}",))


def test_spaces_may_be_known_after_the_first_reset_alone() -> None:
    assert family(f"{FAULTS}:starts", train=("how=spaces known late",)).spec.obs_sizes == (3, 4)


def test_a_state_may_be_a_dict_with_a_space() -> None:
    rows = batch(f"{FAULTS}:stated")
    assert [step.state.tolist() for step in acted(rows, (0,), (0,))] == [[[1, 1, 0, 1]], [[2, 2, 1, 0]]]


@pytest.mark.parametrize("reward", [np.array([0.5]), np.array(0.5), np.float32(0.5), 0.5, torch.tensor([[0.5]])])
def test_an_array_of_one_number_is_a_number(reward: object) -> None:
    assert number(reward, "reward", "it") == 0.5


# --- agents that end --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["terminated", "truncated"])
@pytest.mark.parametrize("listed", ["[]", "[true,true,true,true,true]"])
def test_an_agent_that_ended_sees_does_and_is_paid_nothing_though_it_stays_listed(flag: str, listed: str) -> None:
    rows = batch(f"{FAULTS}:listing", train=(f"flag={flag} listed={listed}",))
    steps = acted(rows, *[(1, 1)] * 6)
    assert [step.alive[0].tolist() for step in steps] == [[True, True]] + [[False, True]] * 5
    assert [bool(step.obs[0, 0].any()) for step in steps] == [True, True, False, False, False, False]
    assert [step.reward[0].tolist() for step in steps[1:]] == [[1, 1]] + [[0, 1]] * 4
    assert [step.truncated.item() for step in steps] == [False] * 5 + [True]


def test_an_agent_that_ended_and_left_cannot_come_back() -> None:
    rows = batch(f"{FAULTS}:listing", train=("listed=[true,false,true]",))
    with pytest.raises(EnvFailure, match="walker_0 ended, left and is listed again before a reset"):
        acted(rows, *[(1, 1)] * 4)


def test_an_agent_that_left_without_an_end_may_come_back() -> None:
    rows = batch(f"{FAULTS}:listing", train=("flag='' listed=[false,true,false,true]",))
    assert [step.alive[0, 0].item() for step in acted(rows, *[(1, 1)] * 5)] == [True, False, True, False, True]


def test_the_last_observation_of_one_that_is_terminated_may_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(env: Compass, actions: dict[str, int]) -> object:
        obs, rewards, _, late, infos = usual(env, actions)
        if env.steps == 2:
            env.agents = ["east", "southeast"]
            del env.chance["north"]
            obs["north"] = None
        return obs, rewards, {"north": env.steps == 2}, late, infos

    usual = Compass.step
    monkeypatch.setattr(Compass, "step", step)
    steps = acted(batch("compass"), *[(1, 1, 1)] * 3)
    assert [step.alive[0, 0].item() for step in steps] == [True, False, False]
    assert not steps[1].obs[0, 0].any() and steps[1].obs[0, 1].any()


# --- what is no error -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "raised"),
    [("interrupt", EnvFailure), ("be interrupted", KeyboardInterrupt), ("be told to stop", Interruption)],
)
def test_what_a_signal_raises_in_an_environment_passes_and_what_it_raises_itself_does_not(
    how: str, raised: type[BaseException], request: pytest.FixtureRequest
) -> None:
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it may be ignored
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, usual))
    rows, action = before_it_fails(how)
    with pytest.raises(raised):
        rows.step(action)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_factory_may_be_in_what_a_package_calls_a_module() -> None:
    for path in ("gymnasium_robotics.mamujoco_v1:parallel_env", "gymnasium_robotics:mamujoco_v1.parallel_env"):
        make_env(path, {"scenario": "Swimmer", "agent_conf": "2x1"}).close()
    with pytest.raises(Complaint, match=r"there is no module gymnasium_robotics\.mamujoco_v9"):
        make_env("gymnasium_robotics.mamujoco_v9:parallel_env", {})
