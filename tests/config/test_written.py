"""Is what ``train --help`` prints without torch what it would print with it?"""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pytest

from envs import ENVS
from mg2l_kalei.commands.train_help import _full_help, _written_help
from mg2l_kalei.config import ConfigError, written
from mg2l_kalei.config.files import CONFIG_DIR, names_in
from mg2l_kalei.config.written import written_sections
from mg2l_kalei.training.system import SCHEMA

LAYOUTS = ".x.\nx.x\n.g.\n"
CHOICES = ["", "n_rows=7 learner.gamma=0.5", "--env=toy-turns --expt=a2c n_iters=3 --print-config", "sharing=snp"]
CHOICES += [f"--{kind}={name}" for kind in ("algo", "expt") for name in names_in(CONFIG_DIR / kind)]
CHOICES += [f"--env={name} --algo=mappo" for name in ENVS]


def test_the_settings_that_are_printed_are_those_of_the_classes() -> None:
    stored = written_sections()
    assert stored is not None, "settings, or what they may come from, have changed: make lists"
    for section, kinds in SCHEMA.sections().items():
        for kind, settings in kinds.items():
            for name, rule in settings.items():
                there = stored[section][kind][name]
                assert there._replace(from_file=None) == rule._replace(from_file=None)
                assert bool(there.from_file) == bool(rule.from_file)
            assert [*stored[section][kind]] == [*settings]
        assert [*stored[section]] == [*kinds]


@pytest.mark.parametrize("words", CHOICES)
def test_help_is_the_same_as_by_the_classes(words: str) -> None:
    assert _written_help(words.split()) == _full_help(words.split())


@pytest.mark.parametrize("words", ["--env=mpe-spred", "n_row=3", "n_rows=0", "n_iters=3 total_env_steps=9", "--algo"])
def test_what_is_wrong_is_left_to_those_who_can_tell_all_of_it(words: str) -> None:
    assert _written_help(words.split()) == ""
    with pytest.raises(ConfigError):
        _full_help(words.split())


def test_what_files_hold_and_code_of_others_is_not_written_down(tmp_path: Path) -> None:
    layouts = tmp_path / "layouts.txt"
    layouts.write_text(LAYOUTS)
    for words in (["--env=rware-layout", f"layouts={layouts}"], ["plugins=somebodys"], ["--config=run/config.yaml"]):
        assert _written_help(words) == ""


def test_settings_of_other_sources_are_not_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("envs", "mg2l_kalei"):
        folder = Path(importlib.import_module(package).__file__ or "").parent
        shutil.copytree(folder, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(written, "_ROOT", tmp_path)
    assert written_sections() is not None
    for name in ("envs/mpe/wind.py", "mg2l_kalei/learners/mappo.py", "mg2l_kalei/training/system.py"):
        changed = tmp_path / name
        whole = changed.read_text()
        changed.write_text(f"{whole}\n")
        assert written_sections() is None
        changed.write_text(whole)
    (tmp_path / "mg2l_kalei/sharing/other.py").touch()
    assert written_sections() is None


def test_every_class_that_has_settings_is_in_a_source_that_is_watched() -> None:
    watched = {line.split(" ")[1] for line in written._digests()}
    configs = [default for kinds in SCHEMA.axes.values() for _, default in kinds.values()] + [*SCHEMA.groups.values()]
    modules = {parent.__module__ for config in configs for parent in type(config).__mro__} - {"builtins"}
    assert {f"{module.replace('.', '/')}.py" for module in modules} <= watched
