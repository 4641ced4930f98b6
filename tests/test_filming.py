"""Is a run filmed whose scenes are pictures, and is it one clear line where this machine cannot draw them?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mg2l_kalei.__main__ as program
import train
from envs.core import CannotDraw, Scene
from envs.toy import CornersBatch
from mg2l_kalei.run_folder import RunFolder
from tests.small_runs import folder_of, tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    words = tiny(tmp_path_factory.mktemp("results"), n_iters=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mg2l_kalei.assessment.save_picture", lambda path, draw: False)
        assert train.main(words) == 0
    return folder_of(words)


def test_a_run_whose_scenes_are_pictures_is_filmed(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "film.gif"
    colours = iter(np.linspace([0, 80, 160], [80, 160, 240], 4).astype(np.uint8))
    monkeypatch.setattr(CornersBatch, "scene", lambda batch, row: np.full((90, 120, 3), next(colours)))
    assert program.main(["render", str(run.path), f"out={path}"]) == 0
    with Image.open(path) as film:
        assert getattr(film, "n_frames", 1) == 4


def test_what_this_machine_cannot_draw_is_one_line_and_no_film(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def scene(batch: CornersBatch, row: int) -> Scene:
        raise CannotDraw("no brush here: buy one")

    monkeypatch.setattr(CornersBatch, "scene", scene)
    capsys.readouterr()
    assert program.main(["render", str(run.path), f"out={tmp_path / 'new' / 'film.gif'}"]) == 2
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "no brush here: buy one\n")
    assert not list(tmp_path.iterdir())
