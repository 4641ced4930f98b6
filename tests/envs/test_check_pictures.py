"""Are pictures scenes, and is a machine that cannot draw them no fault of the family?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from envs.check import check_family
from envs.core import CannotDraw
from envs.toy import Corners, CornersBatch, CornersConfig


def problems(scene: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of ``toy-corners`` if its rows looked like this."""

    def looks(batch: CornersBatch, row: int) -> Any:
        if isinstance(scene, Exception):
            raise scene
        return scene

    monkeypatch.setattr(CornersBatch, "scene", looks)
    return check_family(Corners("toy-corners", CornersConfig(), np.random.default_rng(0)))


@pytest.mark.parametrize(
    "scene", [np.zeros((6, 8, 3), np.uint8), CannotDraw("no brush"), None], ids=["picture", "no brush", "nothing"]
)
def test_a_picture_is_a_scene_and_one_that_cannot_be_drawn_here_is_not_judged(
    scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert problems(scene, monkeypatch) == []


@pytest.mark.parametrize(
    ("scene", "what_it_is"),
    [
        (np.zeros((6, 8), np.uint8), "(6, 8) uint8"),
        (np.zeros((6, 8, 4), np.uint8), "(6, 8, 4) uint8"),
        (np.zeros((0, 8, 3), np.uint8), "(0, 8, 3) uint8"),
        (np.ones((6, 8, 3)), "(6, 8, 3) float64"),
        ("a picture", "() str"),
    ],
)
def test_what_is_no_picture_is_found(scene: Any, what_it_is: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(scene, monkeypatch) == [f"a picture must be (height, width, 3) uint8; it is {what_it_is}"]
