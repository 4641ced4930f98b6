"""Is a file ever seen half-written, written through a link, or read without end?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mg2l_kalei.disk.durable import (
    TEMPORARY,
    read_bounded,
    remove_leftovers,
    replacing,
    write_atomically,
    write_durably,
    write_json,
)


def test_a_write_that_fails_leaves_the_old_content_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "made" / "tasks.json"
    write_json(path, {"b": [1, 0.1], "a": None})
    before = path.read_text()
    assert before.endswith("}\n")

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "half")
    assert path.read_text() == before
    assert os.listdir(path.parent) == ["tasks.json"]


def test_json_without_meaning_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"score": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_link_is_replaced_and_what_it_points_at_left_alone(tmp_path: Path) -> None:
    precious, path = tmp_path / "precious", tmp_path / "run" / "masks.png"
    precious.write_text("precious")
    path.parent.mkdir()
    path.symlink_to(precious)
    with replacing(path) as temporary:
        assert not temporary.match("*.png")  # readers of the folder take it for no picture
        temporary.write_text("new")
    assert precious.read_text() == "precious" and path.read_text() == "new" and not path.is_symlink()
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.symlink_to(precious)
        raise ZeroDivisionError
    assert [entry.name for entry in path.parent.iterdir()] == ["masks.png"]


def test_a_link_in_the_place_of_what_is_being_written_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / f"{TEMPORARY}{os.getpid()}-x.part").symlink_to(precious)
    write_atomically(tmp_path / "x", "new")
    with pytest.raises(FileExistsError):
        write_durably(precious, b"new")
    assert precious.read_text() == "precious" and (tmp_path / "x").read_text() == "new"


def test_leftovers_go_and_nothing_behind_links(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("")
    folder = tmp_path / "run"
    (folder / "tmp-step-00000001").mkdir(parents=True)
    (folder / "tmp-1-tasks.json.part").write_text("")
    (folder / "tmp-link").symlink_to(tmp_path / "precious")
    (folder / "tasks.json").write_text("")
    remove_leftovers(folder)
    assert [path.name for path in folder.iterdir()] == ["tasks.json"] and (tmp_path / "precious" / "file").exists()


@pytest.mark.parametrize("other", ["pipe", "folder", "device", "too long", "link to a device"])
def test_only_files_of_bounded_size_are_read(tmp_path: Path, other: str) -> None:
    path = tmp_path / "latest"
    if other == "pipe":
        os.mkfifo(path)
    elif other == "folder":
        path.mkdir()
    elif other == "too long":
        path.write_bytes(b"12345678901")
    elif other == "device":
        path = Path("/dev/zero")
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"has 11 bytes, and 10 at most" if other == "too long" else "no regular file"):
        read_bounded(path, 10)
    (tmp_path / "fine").write_bytes(b"1234567890")
    assert read_bounded(tmp_path / "fine", 10) == b"1234567890"
