"""Is every wrong use of ``tasks`` refused in one line that says what would have been right?"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import envs
from envs import ENVS
from mg2l_kalei import __main__ as program
from mg2l_kalei.commands.tasks import LISTED, _listed, listing

WRONG = {
    (): "tasks: expected list, show, hash, check, certify",
    ("chek", "toy-turns"): "tasks chek: expected list, show, hash, check, certify (did you mean check?)",
    ("mpe-spred",): "tasks mpe-spred: expected list, show, hash, check, certify (did you mean show mpe-spread?)",
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


def test_the_list_that_is_printed_is_what_the_families_are() -> None:
    assert _listed() == listing(), "families have changed: make lists"
    assert [line.split()[0] for line in listing().splitlines()] == list(ENVS)


def test_a_list_of_another_registry_is_not_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "envs"
    shutil.copytree(Path(envs.__file__).parent, copy)
    monkeypatch.setattr("mg2l_kalei.commands.tasks._packaged", lambda: copy / LISTED)
    assert _listed() == listing()
    for changed in (copy / "mpe" / "wind.py", copy / "__init__.py"):
        whole = changed.read_text()
        changed.write_text("ENVS = {}\n")
        assert _listed() == ""
        changed.write_text(whole)
