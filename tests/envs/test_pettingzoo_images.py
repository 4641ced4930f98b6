"""Are images of PettingZoo environments kept as they are, in one layout, height, width, channels, and in bytes?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from envs.check import check_family, unusual
from envs.images import Images
from envs.pettingzoo.images import common, form_of
from envs.pettingzoo.rows import Rows
from tests.envs.pettingzoo_families import acted, batch, family
from tests.envs.pettingzoo_signs import SIDE

SIGNS = "tests.envs.pettingzoo_signs:signs"
FORMS = ("bytes", "floats", "first", "sizes", "beside", "seen whole")


def shown(rows: Any, agent: str) -> Any:
    """What the environment of row 0 drew last: (height, width, channels)."""
    assert isinstance(rows._rows, Rows)
    env: Any = rows._rows._played[0].env
    image = env.shown[agent]
    return np.moveaxis(image, 0, -1) if env.form == "first" else image


@pytest.mark.parametrize("form", FORMS)
def test_an_observation_is_the_image_that_was_drawn(form: str) -> None:
    rows = batch(SIGNS, train=(f"form={form}",))
    (step,) = acted(rows, (0, 1))
    spec, dtype = rows.spec, torch.float32 if form == "floats" else torch.uint8
    images = Images(1, SIDE, SIDE, 2 if form == "first" else 1, is_bytes=form != "floats")
    assert spec.obs_images == images and spec.obs_dim == images.size
    assert step.obs.dtype == step.state.dtype == dtype
    seen = step.obs.view(1, 2, SIDE, SIDE, -1)[0]
    for n, agent in enumerate(("reader_0", "reader_1")):
        drawn = torch.tensor(shown(rows, agent))
        height, width, channels = drawn.shape
        assert torch.equal(seen[n, :height, :width, :channels], drawn) and drawn.any()
        assert seen[n].float().sum() == drawn.float().sum()  # nothing beside it
    if form == "seen whole":
        assert spec.state_images == images and torch.equal(step.state[0], step.obs[0, 0])
    else:
        assert spec.state_images == images._replace(n=2) and torch.equal(step.state, step.obs.flatten(1))


def test_a_family_with_images_is_honest() -> None:
    made = family(SIGNS, train=("form=sizes",))
    assert check_family(made) == [] and unusual(made) == []


def test_a_spec_whose_images_are_no_observations_is_found() -> None:
    made = family(SIGNS)
    made.spec = made.spec._replace(obs_images=Images(1, 3, 3, 1, is_bytes=True))
    assert any("spec.obs_images must have obs_dim = 64 numbers" in problem for problem in check_family(made))


@pytest.mark.parametrize(
    ("shapes", "size"),
    [
        ([(8, 6, 3)], (8, 6, 3)),
        ([(3, 8, 6)], (8, 6, 3)),
        ([(5, 5, 5)], (5, 5, 5)),
        ([(13, 13, 41)], (13, 13, 41)),  # as MAgent2's are with extra features
        ([(10, 10, 5), (9, 9, 5), (3, 12, 12)], (12, 12, 5)),
        ([(27, 5)], None),
        ([(8, 8, 3), (8,)], None),
        ([(0, 8, 8)], None),
    ],
)
def test_arrays_of_three_axes_are_images_whose_shortest_first_axis_is_that_of_channels(
    shapes: list[tuple[int, ...]], size: tuple[int, ...] | None
) -> None:
    found = common([form_of(shape, np.float64) for shape in shapes])
    assert (None if found is None else (found.height, found.width, found.channels)) == size


def test_images_of_two_types_are_vectors() -> None:
    assert common([form_of((8, 8, 3), np.uint8), form_of((8, 8, 3), np.float32)]) is None


def test_what_is_no_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="reader_0 observed other numbers than 0 to 255, where its image is of uint8"):
        family(SIGNS, train=("form=too bright",))
