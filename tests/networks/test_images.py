"""Do networks see images through convolutions: each image alone, all agents' by the same ones, in little memory?"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from envs.images import Images
from mg2l_kalei.networks import NetworkConfig, RunningMoments, images
from mg2l_kalei.networks.images import ImageEncoder, image_encoder
from tests.small_systems import draw, generator

SMALL = NetworkConfig(image=("4x3/1", "5x2/2"))
BYTES = Images(2, 5, 4, 3, is_bytes=True)


def encoder(size: Images = BYTES, config: NetworkConfig = SMALL) -> ImageEncoder:
    return ImageEncoder(size, config, generator())


def pictures(n: int, size: Images = BYTES, n_others: int = 0) -> torch.Tensor:
    """(n, size + n_others): bytes, or floats where numbers stand behind them."""
    pixels = torch.randint(256, (n, size.size), generator=generator(1), dtype=torch.uint8)
    return torch.cat([pixels, draw(n, n_others)], dim=-1) if n_others else pixels


def test_features_are_those_of_pytorchs_convolutions_over_each_image() -> None:
    made, x = encoder(), pictures(7)
    features = made(x, RunningMoments(0))
    y = x.view(14, 5, 4, 3).permute(0, 3, 1, 2) / 255
    first, second = (made.get_parameter(f"layers.{n}.weight") for n in range(2))
    y = F.relu(F.conv2d(F.relu(F.conv2d(y, first, padding=1)), second, stride=2, padding=1))
    torch.testing.assert_close(features, y.reshape(7, -1))
    assert made.out_features == features.shape[1] and features.std() > 0


def test_numbers_behind_the_images_are_standardised_and_pass_them_by() -> None:
    made, x, moments = encoder(), pictures(6, n_others=2), RunningMoments(2)
    moments.update(3 * draw(50, 2, seed=2) + 1)
    seen = made(x, moments)
    assert torch.equal(seen[:, -2:], moments.normalise(x[:, -2:]))
    torch.testing.assert_close(seen[:, :-2], made(pictures(6), RunningMoments(0)))


def test_a_pass_without_gradients_goes_in_parts_and_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    made, x = encoder(), pictures(9).view(3, 3, -1)
    seen: list[int] = []
    whole = made(x, RunningMoments(0))
    monkeypatch.setattr(images, "PIXELS_AT_ONCE", 100)  # 5 of 20 pixels
    look = ImageEncoder._features

    def counting(self: ImageEncoder, part: torch.Tensor) -> torch.Tensor:
        seen.append(len(part))
        return look(self, part)

    monkeypatch.setattr(ImageEncoder, "_features", counting)
    with torch.no_grad():
        torch.testing.assert_close(made(x, RunningMoments(0)), whole)
    assert seen == [5, 5, 5, 3]


@pytest.mark.parametrize("side", [1, 2, 3, 9, 10, 13, 15])
def test_the_default_takes_images_of_any_size(side: int) -> None:
    size = Images(1, side, side + 1, 5)
    features = encoder(size, NetworkConfig())(draw(4, size.size), RunningMoments(0))
    assert features.shape == (4, 32 * -(-side // 4) * -(-(side + 1) // 4))


def test_there_is_no_encoder_of_vectors_or_without_convolutions() -> None:
    assert image_encoder(None, SMALL, generator()) is None
    assert image_encoder(BYTES, NetworkConfig(image=()), generator()) is None
