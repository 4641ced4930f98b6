"""Layouts of warehouses: as text, as rware makes them from numbers, and what is wrong with one."""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from envs.core import Refusal

SHELF, AISLE, GOAL = "x", ".", "g"
SIZES = {"tiny": (1, 3), "small": (2, 3), "medium": (2, 5), "large": (3, 5)}  # rware's: shelf rows, shelf columns
COLUMN_HEIGHT = 8  # of rware's registrations [cells]
MAX_FILE_SIZE = 1_000_000  # bytes
REQUESTS_PER_AGENT = {"-easy": 2.0, "": 1.0, "-hard": 0.5}
_REGISTRATION = re.compile(r"([a-z]+)-([1-9]|1\d)ag(-[a-z]+)?")


class Layout(NamedTuple):
    """A warehouse. Goals and shelves are numbered row by row, from 0; x counts columns, y rows, from the top left."""

    width: int
    height: int
    shelves: tuple[tuple[int, int], ...]  # (x, y) where shelves belong: they can be put down nowhere else
    goals: tuple[tuple[int, int], ...]

    @property
    def lines(self) -> list[str]:
        """As text: ``x`` shelf, ``.`` aisle, ``g`` goal."""
        marks = {**dict.fromkeys(self.shelves, SHELF), **dict.fromkeys(self.goals, GOAL)}
        return ["".join(marks.get((x, y), AISLE) for x in range(self.width)) for y in range(self.height)]

    def refuse(self, n_agents: int, n_requests: int) -> None:
        """Raises ValueError where there is no place for so many agents, or nothing else left to request."""
        n_cells, n_shelves = self.width * self.height, len(self.shelves)
        size = f"in {self.height} rows of {self.width} columns"
        if n_agents > n_cells:
            raise Refusal(f"{n_agents} agents are more than the {n_cells} cells {size}")
        if n_requests >= n_shelves:
            raise Refusal(f"{n_requests} requests need more shelves than the {n_shelves} {size}")


class Registration(NamedTuple):
    """What a name such as ``tiny-4ag-hard`` stands for in rware."""

    layout: Layout
    n_agents: int
    n_requests: int


def parse_layout(text: str) -> Layout:
    """The layout of a text in rware's notation: spaces count for nothing. Raises ValueError, in one line."""
    lines = text.replace(" ", "").strip().split("\n")
    width = len(lines[0])
    cells: dict[str, list[tuple[int, int]]] = {SHELF: [], AISLE: [], GOAL: []}
    for y, line in enumerate(lines):
        if len(line) != width:
            raise Refusal(f"row {y + 1} ends at column {len(line)}, row 1 at column {width}")
        for x, mark in enumerate(line.lower()):
            if mark not in cells:
                raise Refusal(f"row {y + 1}, column {x + 1}: {line[x]!r} is none of x (shelf), . (aisle), g (goal)")
            cells[mark].append((x, y))
    for mark, name in ((GOAL, "goal"), (SHELF, "shelf")):
        if not cells[mark]:
            raise Refusal(f"no {name} ({mark}) from row 1, column 1 to row {len(lines)}, column {width}")
    return Layout(width, len(lines), tuple(cells[SHELF]), tuple(cells[GOAL]))


def read_layouts(path: Path) -> tuple[Layout, ...]:
    """Layouts of a file, with empty lines between them. Raises ValueError, in one line.

    Lines before a layout that begin with ``# `` are comments.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE_SIZE:
            raise Refusal(f"{path}: expected a plain file, of {MAX_FILE_SIZE} bytes at most")
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{path}: no layouts can be read from it: {error}") from error
    blocks = re.split(r"\n{2,}", "\n".join(map(str.strip, lines)).strip())
    texts = [re.sub(r"\A(#( .*)?(\n|\Z))+", "", block) for block in blocks]
    try:
        return _parse_all([text for text in texts if text])
    except ValueError as error:
        raise Refusal(f"{path}: {error}") from error


def in_one_line(layouts: Sequence[Layout]) -> str:
    """Layouts with a space between them, rows with a ``/``."""
    return " ".join("/".join(layout.lines) for layout in layouts)


def from_one_line(line: str) -> tuple[Layout, ...]:
    """Layouts as ``in_one_line`` writes them. Raises ValueError, in one line."""
    return _parse_all([text.replace("/", "\n") for text in line.split(" ")])


def _parse_all(texts: Sequence[str]) -> tuple[Layout, ...]:
    if not texts:
        raise Refusal("there is no layout in it")
    layouts = []
    for number, text in enumerate(texts):
        try:
            layouts.append(parse_layout(text))
        except ValueError as error:
            raise Refusal(f"layout {number + 1}: {error}") from error
    return tuple(layouts)


def registered(name: str) -> Registration:
    """What rware registers as ``rware-NAME-v2``. Raises ValueError."""
    match = _REGISTRATION.fullmatch(name)
    size, n_agents, difficulty = match.groups(default="") if match else ("", "0", "")
    if size not in SIZES or difficulty not in REQUESTS_PER_AGENT:
        raise Refusal(f"registration={name}: expected SIZE-Nag, -Nag-easy or -Nag-hard, {', '.join(SIZES)}, N to 19")
    n_requests = int(int(n_agents) * REQUESTS_PER_AGENT[difficulty])
    if n_requests == 0:
        raise Refusal(f"registration={name}: half a request is none; -hard needs 2 agents")
    return Registration(_made_of(*SIZES[size]), int(n_agents), n_requests)


def _made_of(rows: int, columns: int) -> Layout:
    """rware's layout: shelves two abreast, aisles around them, and room to queue at the goals, below in the middle."""
    width, height, middle = 3 * columns + 1, (COLUMN_HEIGHT + 1) * rows + 2, (3 * columns + 1) // 2
    goals = ((middle - 1, height - 1), (middle, height - 1))

    def is_shelf(x: int, y: int) -> bool:
        is_queue = y > height - (COLUMN_HEIGHT + 3) and x in (middle - 1, middle)
        return x % 3 != 0 and y % (COLUMN_HEIGHT + 1) != 0 and y != height - 1 and not is_queue

    shelves = tuple((x, y) for y in range(height) for x in range(width) if is_shelf(x, y))
    return Layout(width, height, shelves, goals)
