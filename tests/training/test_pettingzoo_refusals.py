"""Is an environment of unsupported spaces or rewards one line that names agent and space, before a folder is made?"""

from __future__ import annotations

from pathlib import Path

import pytest

import mg2l_kalei.__main__ as program
import train
from tests.envs.pettingzoo_spaces import KINDS
from tests.small_runs import tiny

SPACES = "tests.envs.pettingzoo_spaces"


def refusal(factory: str, keywords: str, results: Path, capsys: pytest.CaptureFixture[str]) -> str:
    settings = {"env__factory": f"{SPACES}:{factory}", "env__train": f"[{keywords}]"}
    assert train.main(tiny(results, "pettingzoo", "mappo", **settings)) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert not list(results.iterdir())
    return shown.err.strip()


@pytest.mark.parametrize("kind", ["Text", "Graph", "Sequence", "OneOf", "Tuple", "Dict"])
def test_observations_that_are_no_numbers_are_refused(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal("sees", f"kind={kind}", tmp_path, capsys)
    assert line.startswith(f"{SPACES}:sees, task 'kind={kind}': it observes {kind}(")
    assert line.endswith("supported are Box, Discrete, MultiBinary, MultiDiscrete, and Dict and Tuple of these")


@pytest.mark.parametrize("kind", KINDS)
def test_actions_other_than_a_choice_or_a_vector_are_refused(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal("acts", f"kind={kind}", tmp_path, capsys)
    assert line.startswith(f"{SPACES}:acts, task 'kind={kind}': it acts in {type(KINDS[kind]).__name__}(")
    assert line.endswith("; supported are Discrete, and Box of floats with one axis and bounds below 1e+15")


def test_rewards_of_several_objectives_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal("paid", "", tmp_path, capsys)
    assert line.endswith("task 'no keywords': the reward of walker_0 is 2 numbers: it must be a number")


def test_a_check_of_the_family_says_so_too(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tasks", "check", "pettingzoo", f"env.factory={SPACES}:sees", "env.train=[kind=Graph]"]
    assert program.main(words) == 2
    assert "it observes Graph(" in capsys.readouterr().err
