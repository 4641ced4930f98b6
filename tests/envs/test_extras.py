"""Is a package that only some families need named by the extra that brings it, and does that extra exist?"""

from __future__ import annotations

import configparser
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs import ENVS, make_family
from envs.core import Refusal
from envs.extras import EXTRAS
from mg2l_kalei import __main__ as program

ROOT = Path(__file__).parents[2]


def extras() -> dict[str, str]:
    """What setup.cfg lists for each."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return dict(setup["options.extras_require"])


def test_the_guide_names_the_extras_that_there_are() -> None:
    guide = (ROOT / "docs" / "guides" / "install.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", guide, re.MULTILINE) == list(extras())


def test_every_extra_that_is_named_brings_its_package() -> None:
    for package, extra in EXTRAS.items():
        assert re.search(rf"^{package.replace('_', '-')}\W", extras()[extra], re.MULTILINE)


MISSING: list[tuple[str, str, dict[str, Any], str]] = [
    ("numba", "rware-tiny-2ag", {}, "numba is not installed: pip install 'mg2l_kalei[rware]'"),
    (
        "pettingzoo",
        "pettingzoo",
        {"factory": "a:b"},
        "pettingzoo is not installed: pip install 'mg2l_kalei[pettingzoo]'",
    ),
    (
        "mpe2",
        "pettingzoo",
        {"factory": "mpe2.simple_tag_v3:parallel_env"},
        "mpe2.simple_tag_v3:parallel_env: there is no module mpe2: pip install 'mg2l_kalei[pettingzoo]'",
    ),
]


@pytest.mark.parametrize(("package", "name", "settings", "line"), MISSING, ids=[case[0] for case in MISSING])
def test_a_missing_package_is_one_line_with_what_installs_it(
    package: str, name: str, settings: dict[str, Any], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [module for module in sys.modules if module.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Refusal) as refused:
        make_family(name, replace(ENVS[name][1], **settings), np.random.default_rng(0))
    assert str(refused.value) == line


def test_training_without_it_is_refused_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    assert program.main(["train", "--env=rware-tiny-2ag", f"results_dir={tmp_path / 'results'}"]) == 2
    assert capsys.readouterr().err == "numba is not installed: pip install 'mg2l_kalei[rware]'\n"
    assert not list(tmp_path.iterdir())
