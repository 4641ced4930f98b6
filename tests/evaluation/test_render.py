"""Does the film show the scene, the targets, the beliefs and the return so far?"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageSequence

from envs.core import Marker, Picture, Scene
from mg2l_kalei.evaluation.render import (
    FILLS,
    PANEL,
    PAPER,
    RING,
    SCENE,
    TITLE,
    Film,
    draw_frame,
    trial_captions,
    write_gif,
)


def _scene(x: float, *, is_target: bool = False, role: str = "agent") -> Scene:
    return Scene((Marker(x, 0.5, 0.1, role, is_target),), -1.0, 1.0)


def _film(n_frames: int = 4, belief: np.ndarray | None = None) -> Film:
    scenes = [_scene(0.1 * t) for t in range(n_frames)]
    return Film(scenes, [f"step {t}" for t in range(n_frames)], belief, ("left", "right"), 0)


def _share(image: Image.Image, colour: str) -> float:
    return float((np.asarray(image) == ImageColor.getrgb(colour)).all(axis=-1).mean())


def test_every_step_is_a_frame_of_the_gif(tmp_path: Path) -> None:
    path = tmp_path / "trial.gif"
    write_gif(_film(), path)
    with Image.open(path) as gif:
        frames = [np.asarray(frame.convert("L"), dtype=float) for frame in ImageSequence.Iterator(gif)]
    assert [frame.shape for frame in frames] == [(TITLE + SCENE, SCENE)] * 4
    assert all(np.abs(a - b).max() > 100 for a, b in pairwise(frames)), "the agent moves"


def test_markers_are_where_they_are_with_y_up() -> None:
    frame = draw_frame(_film(1), 0)  # the agent stands at x = 0, y = 0.5
    blue = (np.asarray(frame) == ImageColor.getrgb(FILLS["agent"])).all(axis=-1)
    rows, columns = np.nonzero(blue)
    assert columns.mean() == pytest.approx(SCENE / 2, abs=2)
    assert rows.mean() == pytest.approx(TITLE + SCENE / 4, abs=2)


def test_only_targets_are_ringed() -> None:
    plain, ringed = (
        draw_frame(Film([_scene(0.0, is_target=is_target, role="landmark")], [""]), 0) for is_target in (False, True)
    )
    assert _share(plain, RING) == 0.0
    assert _share(ringed, RING) > 0.0005


def test_bars_grow_with_the_belief_and_the_true_task_stands_out() -> None:
    belief = np.array([[[0.2, 0.8], [0.2, 0.8]], [[0.9, 0.1], [0.9, 0.1]]])  # (T, N, n_tasks)
    unsure, sure = (draw_frame(_film(2, belief), t) for t in range(2))
    assert unsure.width == SCENE + PANEL
    assert _share(sure, RING) == pytest.approx(4.5 * _share(unsure, RING), rel=0.1)


def test_captions_restart_with_the_episode() -> None:
    reward = np.array([[1.0, 3.0], [2.0, 2.0], [-1.0, -1.0]])
    captions = trial_captions("named", reward, np.array([True, False, True]))
    assert captions == [
        "named · episode 0 · step 1 · return 2.0",
        "named · episode 0 · step 2 · return 4.0",
        "named · episode 1 · step 1 · return -1.0",
    ]


def _picture(t: int, height: int = 90, width: int = 120) -> Picture:
    """Columns of all hues and rows of all brightnesses, with a white square that moves."""
    hue, brightness = np.meshgrid(np.arange(width) * 255 // width, 255 - np.arange(height) * 128 // height)
    pixels = np.stack([hue, np.full_like(hue, 200), brightness], axis=-1).astype(np.uint8)
    picture = np.asarray(Image.fromarray(pixels, "HSV").convert("RGB")).copy()
    picture[10:30, 10 * t : 10 * t + 20] = 255
    return picture


def test_a_picture_is_in_the_middle_as_large_as_there_is_place() -> None:
    frame = np.asarray(draw_frame(Film([np.full((90, 120, 3), 7, np.uint8)], [""]), 0))[TITLE:]
    rows, columns = np.nonzero((frame == 7).all(axis=-1))
    assert (rows.min(), rows.max()) == (SCENE // 8, SCENE - SCENE // 8 - 1)
    assert (columns.min(), columns.max()) == (0, SCENE - 1)
    assert (frame[: SCENE // 8] == 255).all() and (frame[-(SCENE // 8) :] == 255).all()
    tall = np.asarray(draw_frame(Film([_picture(0, 120, 90)], [""]), 0))[TITLE:]
    assert (tall[:, : SCENE // 8] == 255).all() and not (tall[-SCENE // 8 :, SCENE // 2] == 255).all()


def test_pictures_keep_their_colours_and_so_does_the_belief_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "trial.gif"
    belief = np.tile([0.2, 0.8], (6, 2, 1))
    film = Film([_picture(t) for t in range(6)], [""] * 6, belief, ("left", "right"), 0)
    write_gif(film, path)
    with Image.open(path) as gif:
        frames = [np.asarray(frame.convert("RGB"), dtype=float) for frame in ImageSequence.Iterator(gif)]
    drawn = [np.asarray(draw_frame(film, t), dtype=float) for t in range(6)]
    assert max(np.abs(a - b)[:, :SCENE].mean() for a, b in zip(frames, drawn, strict=True)) < 8  # of 255
    for colour in (RING, PAPER):
        shares = [_share(Image.fromarray(of[0][:, SCENE:].astype(np.uint8)), colour) for of in (frames, drawn)]
        assert shares[0] == pytest.approx(shares[1], rel=0.01) and shares[1] > 0.02
    still = np.s_[TITLE + SCENE // 2 :]
    assert all((frame[still] == frames[0][still]).all() for frame in frames), "what does not move does not flicker"


def test_what_does_not_match_the_scenes_is_refused(tmp_path: Path) -> None:
    short = np.full((3, 2, 2), 0.5)
    for film in (Film([], []), Film([_scene(0.0)], []), _film(4, short)):
        with pytest.raises(ValueError, match="a film needs"):
            write_gif(film, tmp_path / "trial.gif")
    assert not list(tmp_path.iterdir())
