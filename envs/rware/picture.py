"""A warehouse row as a picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from envs.core import Picture
from envs.rware.floor import Array, Floor, Plan, Rules

CELL = 32  # pixels
SMOOTHING = 3  # drawn this many times larger, and scaled down
PAPER, LINE, AISLE_MARK, INK = "#FFFFFF", "#DDDDDD", "#F3F3F3", "#333333"
GOAL = "#777777"
SHELF = "#C9C3DD"
REQUESTED = ("#009E73", "#CC79A7", "#F0E442", "#0072B2")  # by colour of shelf
EMPTY_HANDED, LOADED = "#E69F00", "#D55E00"  # agents
HEADINGS = ((0, -1), (0, 1), (-1, 0), (1, 0))  # up, down, left, right


def picture(floor: Floor, plan: Plan, rules: Rules, row: int) -> Picture:
    """Goals are dark grey, shelves pale, requested ones coloured, agents discs with their number and a nose ahead.

    An agent is orange, and red with its shelf around it while it carries. Where agents deliver a colour of their own,
    a ring around them has it.
    """
    task = int(floor.task[row])
    layout = int(plan.layout[task])
    cells = np.flatnonzero(plan.is_inside[layout])
    width, height = plan.where[cells].max(axis=0) + 1
    image = Image.new("RGB", (width * CELL * SMOOTHING, height * CELL * SMOOTHING), PAPER)
    pen = ImageDraw.Draw(image)
    for cell in cells:
        _draw_cell(pen, plan.where[cell], bool(plan.is_highway[layout, cell]), bool((plan.goals[layout] == cell).any()))
    for cell in cells[floor.shelf_at[row, cells] > 0]:
        shelf = int(floor.shelf_at[row, cell])
        colour = REQUESTED[int(floor.shelf_colour[row, shelf]) % len(REQUESTED)]
        pen.rectangle(_box(plan.where[cell], 0.1), fill=colour if floor.is_requested[row, shelf] else SHELF)
    for agent in range(rules.n_agents):
        ring = REQUESTED[int(plan.colour[task, agent]) % len(REQUESTED)] if rules.n_colours > 1 else INK
        _draw_agent(pen, floor, plan.where[floor.cell[row, agent]], (row, agent), ring)
    small = image.resize((int(width) * CELL, int(height) * CELL), Image.Resampling.BOX)
    return np.asarray(small).copy()


def _draw_cell(pen: ImageDraw.ImageDraw, at: Array, is_highway: bool, is_goal: bool) -> None:
    fill = GOAL if is_goal else PAPER if is_highway else AISLE_MARK
    pen.rectangle(_box(at, 0.0), fill=fill, outline=LINE, width=SMOOTHING)


def _draw_agent(pen: ImageDraw.ImageDraw, floor: Floor, at: Array, who: tuple[int, int], ring: str) -> None:
    (row, agent), side = who, CELL * SMOOTHING
    fill = LOADED if floor.carried[row, agent] else EMPTY_HANDED
    middle, heading = (at + 0.5) * side, np.array(HEADINGS[int(floor.direction[row, agent])])
    nose = middle + 0.46 * side * heading
    across = 0.17 * side * heading[::-1]
    base = middle + 0.22 * side * heading
    pen.polygon([tuple(nose), tuple(base + across), tuple(base - across)], fill=INK)
    pen.ellipse(_box(at, 0.22), fill=fill, outline=ring, width=2 * SMOOTHING)
    font = ImageFont.load_default(size=11 * SMOOTHING)
    pen.text(tuple(middle), str(agent), fill=PAPER, font=font, anchor="mm")


def _box(at: Array, margin: float) -> tuple[float, float, float, float]:
    """Corners of a cell's square, less a margin in cells."""
    side = CELL * SMOOTHING
    x, y = at.tolist()
    return ((x + margin) * side, (y + margin) * side, (x + 1 - margin) * side - 1, (y + 1 - margin) * side - 1)
