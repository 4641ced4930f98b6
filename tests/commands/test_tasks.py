"""Is every wrong use of ``tasks`` refused in one line that says what would have been right?"""

from __future__ import annotations

import re

import pytest

from mg2l_kalei import __main__ as program

WRONG = {
    (): "tasks: expected list, show, hash, check",
    ("chek", "toy-turns"): "tasks chek: expected list, show, hash, check (did you mean check?)",
    ("mpe-spred",): "tasks mpe-spred: expected list, show, hash, check (did you mean show mpe-spread?)",
    ("list", "toy"): "tasks list toy: expected nothing after list",
    ("check",): "tasks check: expected a family's name first, see tasks list",
    ("check", ""): "tasks check: expected a family's name first, see tasks list",
    ("show", "seed=3"): "tasks show seed=3: expected a family's name first, see tasks list",
    ("show", "ant"): "tasks show ant: no such family (did you mean mujoco-ant-4x2 or mujoco-ant-dir?), see tasks list",
    ("hash", "mpe-spred"): "tasks hash mpe-spred: no such family (did you mean mpe-spread?), see tasks list",
    ("show", "toy-turns", "toy-corners"): "command line: toy-corners: expected key=value",
    ("show", "toy-turns", "n_agent=2"): "command line: n_agent=2: no such setting (did you mean n_agents?)",
    ("check", "toy-turns", "--print-config"): "tasks: --print-config is an option of train",
    ("show", "mujoco-hopper-3x1", "agent_conf=2x3"): "agent_conf='2x3': Hopper is divided as: 3x1",
}


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_a_wrong_use_says_what_would_be_right(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["tasks", *words]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", WRONG[words] + "\n")


def test_a_family_that_lacks_a_setting_is_listed_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["tasks", "list"]) == 0
    assert re.search(r"^pettingzoo +env\.factory=module:function is needed", capsys.readouterr().out, re.M)
