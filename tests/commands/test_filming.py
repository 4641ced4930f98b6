"""Is a run filmed as it is evaluated, and is it one clear line where this machine cannot draw its scenes?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mg2l_kalei.__main__ as program
import train
from envs.core import CannotDraw, Scene
from envs.toy import CornersBatch
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.evaluation.render import Film
from mg2l_kalei.learners.mappo import Mappo
from mg2l_kalei.types import ActionSample, Clock
from tests.small_runs import folder_of, tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    words = tiny(tmp_path_factory.mktemp("results"), n_iters=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)
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


def test_a_run_whose_evaluations_sample_actions_is_evaluated_and_filmed_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)
    act, told = Mappo.act, set()

    def watched(learner: Mappo, *given: Any, explore: Clock | None) -> ActionSample:
        told.add(explore is not None)
        return act(learner, *given, explore=explore)

    monkeypatch.setattr(Mappo, "act", watched)
    words = tiny(tmp_path, n_iters=1, eval_actions="sampled")
    assert train.main(words) == 0
    folder = folder_of(words)
    assert [path.name for path in folder.evaluation.glob("*.json")] == ["train-16-2x2-sampled.json"]
    assert program.main(["evaluate", str(folder.path), "trials=3"]) == 0
    assert (folder.evaluation / "train-16-3x2-sampled.json").is_file()
    assert program.main(["render", str(folder.path)]) == 0
    assert told == {True}


def test_what_is_imagined_is_filmed_beside_what_happened(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)
    words = tiny(tmp_path, algo="mappo_model", n_iters=3)
    assert train.main(words) == 0
    films: list[Film] = []
    monkeypatch.setattr("mg2l_kalei.commands.render.write_gif", lambda film, path: films.append(film))
    assert program.main(["render", str(folder_of(words).path), "imagined=true"]) == 0
    (film,) = films
    roles = [[marker.role for marker in scene.markers] for scene in film.scenes if isinstance(scene, Scene)]
    assert len(film.captions) == len(roles) == 4
    assert [of_scene.count("imagined") for of_scene in roles] == [0, 2, 2, 2]
    capsys.readouterr()
    assert program.main(["render", str(run.path), "imagined=true"]) == 2
    assert capsys.readouterr().err.endswith("has no world model: nothing is imagined\n")
