"""A trial as a GIF: the scene with its targets ringed, and what each agent believes the task to be."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from envs.core import Marker, Picture, Scene
from mg2l_kalei.disk.durable import replacing
from mg2l_kalei.evaluation.statistics import Array

SCENE = 360  # pixels, side of the scene
PANEL = 280  # pixels, width of the belief panel
TITLE = 34  # pixels, height of the caption above both
SMOOTHING = 2  # the scene is drawn this many times larger and scaled down
FRAME_MS = 60  # duration of a frame
LAST_FRAME_MS = 1500  # the last one stays, so that the loop's start is seen
LEAST_RADIUS = 5.0  # pixels: points are drawn as small discs
NAMED_TASKS = 6  # tasks up to which bars carry their names
PALETTE = 256  # colours in a GIF
PICTURE_COLOURS = 192  # of them for pictures, if there are any
PALETTE_FRAMES = 8  # that the pictures' colours are taken from
LOOKS_THE_SAME = 4  # of 255, in each channel: such entries of a palette are confused with each other

FILLS = {"agent": "#0072B2", "prey": "#E69F00", "landmark": "#9A9A9A"}
OTHER = "#56B4E9"
RING = "#D55E00"  # targets, and the bar of the true task
PAPER, INK, FAINT = "#FFFFFF", "#333333", "#DDDDDD"


class Film(NamedTuple):
    """One trial of one row, step by step."""

    scenes: Sequence[Scene | Picture]  # T
    captions: Sequence[str]  # T
    belief: Array | None = None  # (T, N, n_tasks)   probability of each task, per agent
    tasks: tuple[str, ...] = ()  # names, for the bars
    true_task: int | None = None


def trial_captions(title: str, reward: Array, episode_start: Array) -> list[str]:
    """Title, episode, step and return so far, for reward (T, N) and episode_start (T,) bool."""
    captions = []
    episode, step, total = -1, 0, 0.0
    for team_reward, starts in zip(reward.mean(axis=-1), episode_start, strict=True):
        if starts:
            episode, step, total = episode + 1, 0, 0.0
        step, total = step + 1, total + float(team_reward)
        captions.append(f"{title} · episode {episode} · step {step} · return {total:.1f}")
    return captions


def write_gif(film: Film, path: Path) -> None:
    """Write the film as a looping GIF. Raises ValueError where captions or beliefs do not match the scenes.

    Raises OSError where it cannot be written.
    """
    n_frames = len(film.scenes)
    given = {n_frames, len(film.captions)} | (set() if film.belief is None else {len(film.belief)})
    if n_frames == 0 or len(given) > 1:
        lengths = f"{n_frames} scenes, lengths {sorted(given)}"
        raise ValueError(f"a film needs scenes, and one caption (and belief) for each; given: {lengths}")
    palette = _palette(film)
    frames = [draw_frame(film, t).quantize(palette=palette, dither=Image.Dither.NONE) for t in range(n_frames)]
    durations = [FRAME_MS] * (n_frames - 1) + [LAST_FRAME_MS]
    with replacing(path) as temporary:
        frames[0].save(
            temporary, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=False
        )


def draw_frame(film: Film, t: int) -> Image.Image:
    """Frame t in RGB."""
    width = SCENE + (0 if film.belief is None else PANEL)
    frame = Image.new("RGB", (width, TITLE + SCENE), PAPER)
    pen = ImageDraw.Draw(frame)
    pen.text((10, TITLE / 2), film.captions[t], fill=INK, font=_font(13), anchor="lm")
    frame.paste(_draw_scene(film.scenes[t]), (0, TITLE))
    if film.belief is not None:
        _draw_belief(pen, film, film.belief[t])
    return frame


def _draw_scene(scene: Scene | Picture) -> Image.Image:
    if not isinstance(scene, Scene):  # in the middle, as large as there is place
        return ImageOps.pad(Image.fromarray(scene), (SCENE, SCENE), Image.Resampling.LANCZOS, color=PAPER)
    side = SCENE * SMOOTHING
    image = Image.new("RGB", (side, side), PAPER)
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, side - 1, side - 1), outline=FAINT, width=2 * SMOOTHING)
    agents = [marker for marker in scene.markers if marker.role == "agent"]
    for marker in scene.markers:
        if marker.role != "agent":
            _draw_marker(pen, marker, scene)
    for number, agent in enumerate(agents):  # on top of everything else
        _draw_marker(pen, agent, scene, str(number))
    return image.resize((SCENE, SCENE), Image.Resampling.BOX)


def _draw_marker(pen: ImageDraw.ImageDraw, marker: Marker, scene: Scene, label: str = "") -> None:
    side = SCENE * SMOOTHING
    scale = side / (scene.high - scene.low)
    x, y = (marker.x - scene.low) * scale, side - (marker.y - scene.low) * scale  # y points up
    radius = max(marker.radius * scale, LEAST_RADIUS * SMOOTHING)
    pen.circle((x, y), radius, fill=FILLS.get(marker.role, OTHER))
    if marker.is_target:
        pen.circle((x, y), radius + 5 * SMOOTHING, outline=RING, width=3 * SMOOTHING)
    pen.text((x, y), label, fill=PAPER, font=_font(11 * SMOOTHING), anchor="mm")


def _draw_belief(pen: ImageDraw.ImageDraw, film: Film, belief: Array) -> None:
    """A strip per agent with a bar per task: belief (N, n_tasks)."""
    n_agents, n_tasks = belief.shape
    left, right, top = SCENE + 24, SCENE + PANEL - 16, TITLE + 22
    pen.text((left, TITLE + 6), "inferred task (true one in orange)", fill=INK, font=_font(12), anchor="lm")
    strip = (SCENE - 30) / n_agents
    slot = (right - left) / n_tasks
    for agent in range(n_agents):
        base = top + (agent + 1) * strip - 22
        height = strip - 44
        pen.text((left, base - height - 10), f"agent {agent}", fill=INK, font=_font(11), anchor="lm")
        for probability in (0.0, 0.5, 1.0):
            pen.line((left, base - probability * height, right, base - probability * height), fill=FAINT)
        for task in range(n_tasks):
            x = left + task * slot
            fill = RING if task == film.true_task else FILLS["agent"]
            pen.rectangle((x + 0.1 * slot, base - height * float(belief[agent, task]), x + 0.9 * slot, base), fill=fill)
            if n_tasks <= NAMED_TASKS and film.tasks:
                pen.text((x + slot / 2, base + 10), film.tasks[task], fill=INK, font=_font(11), anchor="mm")


def _palette(film: Film) -> Image.Image:
    """At most 256 colours, the same for every frame, so nothing flickers.

    Those of the drawing with their blends with paper, and, if scenes are pictures, those that describe these best.
    """
    seen = _picture_colours(film)
    colours = [*FILLS.values(), OTHER, RING, INK]
    blend = np.linspace(0, 1, (PALETTE - len(seen)) // len(colours))[:, None]
    paper = np.array(_rgb(PAPER))
    drawn = np.concatenate([blend * np.array(_rgb(colour)) + (1 - blend) * paper for colour in colours])
    is_new = (np.abs(seen[:, None] - drawn).max(axis=-1) > LOOKS_THE_SAME).all(axis=-1)  # else paper may not be white
    image = Image.new("P", (1, 1))
    image.putpalette([int(value) for value in np.concatenate([drawn, seen[is_new]]).round().flatten()])
    return image


def _picture_colours(film: Film) -> Array:
    """Of some frames of the whole film: (n, 3), n at most PICTURE_COLOURS; none where scenes are markers."""
    pictures = [scene for scene in film.scenes if not isinstance(scene, Scene)]
    if not pictures:
        return np.zeros((0, 3))
    chosen = np.linspace(0, len(pictures) - 1, min(PALETTE_FRAMES, len(pictures))).round().astype(int)
    side_by_side = np.concatenate([np.asarray(_draw_scene(pictures[number])) for number in chosen], axis=1)
    palette = Image.fromarray(side_by_side).quantize(PICTURE_COLOURS).getpalette()
    return np.array(palette).reshape(-1, 3)[:PICTURE_COLOURS]


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
