"""Is what a setting's file holds part of the run, and the file read for nobody but those who name it?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mg2l_kalei.config import ConfigError, from_dict, load, read_yaml, run_name, to_yaml
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA, family_of


def warehouse(path: Path) -> list[str]:
    return ["--env=rware-layout", f"layouts={path}", "env.n_requests=2"]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.txt"
    path.write_text("# mine\nxxx\n..g\n\nxxxx\ng...\n")
    return path


def test_a_run_holds_the_layouts_and_needs_no_file(own: Path, tmp_path: Path) -> None:
    config = load(warehouse(own), SCHEMA, CONFIG_DIR).config
    assert config.env.layouts == "xxx/..g xxxx/g..."
    written = tmp_path / "config.yaml"
    written.write_text(to_yaml(config))
    own.unlink()
    again = from_dict(read_yaml(written), SCHEMA)
    assert again == config
    assert family_of(again).fingerprint() == family_of(config).fingerprint()


def test_runs_are_told_apart_by_layouts_and_not_by_the_file(own: Path, tmp_path: Path) -> None:
    def name(path: Path) -> str:
        return run_name(load(warehouse(path), SCHEMA, CONFIG_DIR).config)

    copy = tmp_path / "copy.txt"
    copy.write_text("xxx\n..g\n\n# another remark\nxxxx\ng...\n")
    before = name(own)
    assert name(copy) == before
    own.write_text("xxx\n..g\n")
    assert name(own) != before


def test_a_run_that_names_a_file_has_it_left_alone(own: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = to_yaml(load(warehouse(own), SCHEMA, CONFIG_DIR).config)
    for path in (own, pipe):
        (tmp_path / "config.yaml").write_text(text.replace("xxx/..g xxxx/g...", str(path)))
        with pytest.raises(ConfigError, match=f"layouts={path}: expected rows of layouts"):
            from_dict(read_yaml(tmp_path / "config.yaml"), SCHEMA)


def test_a_bad_file_is_a_bad_setting(own: Path, tmp_path: Path) -> None:
    own.write_text("xxx\n..\n")
    for path, reason in ((own, "layout 1: row 2 ends at column 2"), (tmp_path / "none", "no layouts can be read")):
        with pytest.raises(ConfigError) as raised:
            load(warehouse(path), SCHEMA, CONFIG_DIR)
        (line,) = raised.value.problems
        assert line.startswith(f"command line: env.layouts={path}: {path}: {reason}")
