"""Is a layout what its text says, and is a bad one refused in one line that says where?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envs.rware.family import PAPERS_LAYOUTS
from envs.rware.layout import from_one_line, in_one_line, parse_layout, read_layouts, registered


def test_a_layout_is_read_and_written() -> None:
    layout = parse_layout(" . X x\ng . G \n")
    assert (layout.width, layout.height) == (3, 2)
    assert layout.shelves == ((1, 0), (2, 0))
    assert layout.goals == ((0, 1), (2, 1))
    assert layout.lines == [".xx", "g.g"]


def test_layouts_are_written_in_one_line_and_read_again() -> None:
    layouts = (parse_layout(".xx\ng.g"), parse_layout("gx"))
    assert in_one_line(layouts) == ".xx/g.g gx"
    assert from_one_line(in_one_line(layouts)) == layouts


def test_the_papers_layouts_are_five_of_ten_by_ten() -> None:
    layouts = read_layouts(PAPERS_LAYOUTS)
    assert [(layout.width, layout.height, layout.goals) for layout in layouts] == [(10, 10, ((4, 9), (5, 9)))] * 5
    assert [len(layout.shelves) for layout in layouts] == [28, 14, 14, 16, 16]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("..xx\n.xx.\n....", "no goal (g) from row 1, column 1 to row 3, column 4"),
        ("..\ng.", "no shelf (x) from row 1, column 1 to row 2, column 2"),
        ("gxx\n..", "row 2 ends at column 2, row 1 at column 3"),
        ("gxx\n....", "row 2 ends at column 4, row 1 at column 3"),
        ("gxx\n.X#", "row 2, column 3: '#' is none of x (shelf), . (aisle), g (goal)"),
        ("gxx\n#..", "row 2, column 1: '#' is none of x (shelf), . (aisle), g (goal)"),
        ("#xx\ng..", "row 1, column 1: '#' is none of x (shelf), . (aisle), g (goal)"),
        ("", "no goal (g) from row 1, column 1 to row 1, column 0"),
    ],
)
def test_a_bad_layout_is_refused_where_it_is_bad(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as raised:
        parse_layout(text)
    assert str(raised.value) == message
    path = tmp_path / "layouts.txt"
    path.write_text("# of two, this is\n#\n# the first\ngxx\n...\n\n# and a remark\n\n" + text)
    if text:
        with pytest.raises(ValueError) as raised:
            read_layouts(path)
        assert str(raised.value) == f"{path}: layout 2: {message}"


@pytest.mark.parametrize(
    ("n_agents", "n_requests", "message"),
    [
        (7, 1, "7 agents are more than the 6 cells in 2 rows of 3 columns"),
        (2, 2, "2 requests need more shelves than the 2 in 2 rows of 3 columns"),
    ],
)
def test_a_layout_too_small_is_refused(n_agents: int, n_requests: int, message: str) -> None:
    layout = parse_layout("gxx\n...")
    layout.refuse(6, 1)
    with pytest.raises(ValueError) as raised:
        layout.refuse(n_agents, n_requests)
    assert str(raised.value) == message


def test_a_file_without_a_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("# to come\n")
    with pytest.raises(ValueError, match=r"none\.txt: there is no layout in it"):
        read_layouts(tmp_path / "none.txt")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.txt: no layouts can be read from it"):
        read_layouts(tmp_path / "nowhere.txt")


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    """Nor is a large one: to open what nobody writes to, or to read what never ends, would take for ever."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * 1_000_001)
    for path in (tmp_path / "pipe", tmp_path / "large", tmp_path, Path("/dev/zero")):
        with pytest.raises(ValueError, match=f"{path}: expected a plain file, of 1000000 bytes at most"):
            read_layouts(path)


@pytest.mark.parametrize("name", ["tiny", "tiny-0ag", "tiny-20ag", "huge-4ag", "tiny-4ag-harder", "tiny-1ag-hard"])
def test_what_rware_does_not_register_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"registration={name}: "):
        registered(name)
