"""Does a PettingZoo environment show its own picture where it is filmed, and is it spared the work elsewhere?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mg2l_kalei.__main__ as program
import train
from envs.check import check_family
from envs.core import CannotDraw
from envs.pettingzoo.batch import PettingZooBatch
from tests.envs import pettingzoo_pictures
from tests.envs.pettingzoo_families import family
from tests.small_runs import folder_of, tiny

PICTURES = "tests.envs.pettingzoo_pictures"
ONE = torch.zeros(1, dtype=torch.int64)


def drawn(factory: str, n_workers: int = 0, **keywords: str) -> PettingZooBatch:
    """A row that is to be filmed, at its start."""
    given = " ".join(f"{name}={value}" for name, value in keywords.items())
    path = factory if ":" in factory else f"{PICTURES}:{factory}"
    made = family(path, train=(given,), n_workers=n_workers).drawn()
    rows = made.make(1, torch.device("cpu"), torch.Generator().manual_seed(0))
    rows.reset(ONE)
    return rows


def test_a_film_shows_the_environments_own_picture_and_training_makes_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pettingzoo_pictures.MADE.clear()
    factory = f"{PICTURES}:painted"
    words = tiny(tmp_path, "pettingzoo", "mappo", env__factory=factory, n_iters=1)
    assert train.main(words) == 0
    path, film = folder_of(words).path, tmp_path / "film.gif"
    assert {*pettingzoo_pictures.MADE} == {None}
    assert program.main(["render", str(path), f"factory={factory}", f"out={film}"]) == 0
    assert pettingzoo_pictures.MADE.count("rgb_array") == 1
    with Image.open(film) as gif:
        assert getattr(gif, "n_frames", 1) == 4
        for frame, colour in enumerate([0, 40, 80, 120]):
            gif.seek(frame)
            shown = np.asarray(gif.convert("RGB")).astype(int)[34 + 180, 180]  # in the middle of the scene
            assert np.abs(shown - colour).max() <= 4


@pytest.mark.parametrize("n_workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_pictures_stay_as_they_are_and_workers_do_not_draw(n_workers: int) -> None:
    rows = drawn("painted", n_workers=n_workers)
    first = rows.scene(0)
    rows.step(torch.zeros(1, 2, dtype=torch.int64))
    second = rows.scene(0)
    assert first is not None and second is not None
    assert (first == 0).all() and (second == 40).all()


@pytest.mark.parametrize(
    ("look", "line"),
    [
        ("nothing", r"render\(\) gave None: expected a picture"),
        ("floats", r"render\(\) gave \(6, 8, 3\) float64: expected a picture \(height, width, 3\) uint8"),
        ("text", r"render\(\) gave '\|..x\|': expected a picture"),
        ("raise", r"render\(\) raised IndexError: list index out of range \(pettingzoo_pictures.py, line \d+\)"),
    ],
)
def test_what_is_no_picture_is_said_in_one_line_that_names_the_task(look: str, line: str) -> None:
    with pytest.raises(CannotDraw, match=rf"^pettingzoo, task 'look={look}', seed \d+: {line}"):
        drawn("painted", look=look).scene(0)


def test_an_environment_that_cannot_draw_says_so() -> None:
    assert drawn("tests.envs.pettingzoo_envs:walk").scene(0) is None
    with pytest.raises(CannotDraw, match=r"strict\(render_mode='rgb_array'\) raised TypeError: no paint here"):
        drawn("strict")


@pytest.mark.slow
def test_an_environment_that_refuses_to_draw_is_honest() -> None:
    assert check_family(family(f"{PICTURES}:strict")) == []


@pytest.mark.slow
def test_mpe_draws_itself() -> None:
    rows = drawn("mpe2.simple_spread_v3:parallel_env")
    first = rows.scene(0)
    for _ in range(5):
        rows.step(torch.tensor([[1, 2, 3]]))
    assert first is not None and (first != rows.scene(0)).any()


# --- what is unusual --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "warnings"),
    [
        pytest.param("painted", [], marks=pytest.mark.slow),
        pytest.param("same_start", ["warning: all rows start alike"], marks=pytest.mark.slow),
        ("clockwork", ["warning: batches with different seeds do not differ", "warning: all rows start alike"]),
    ],
)
def test_fixed_starts_and_seeds_that_decide_nothing_are_warnings_of_the_check(
    factory: str, warnings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["tasks", "check", "pettingzoo", f"env.factory={PICTURES}:{factory}"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "pettingzoo: no problem found\n" and shown.err.splitlines() == warnings
