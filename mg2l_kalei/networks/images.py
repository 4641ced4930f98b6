"""What actors and critics see images with: convolutions before their first layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from envs.images import Images
from mg2l_kalei.networks.config import NetworkConfig
from mg2l_kalei.networks.mlp import ACTIVATIONS
from mg2l_kalei.networks.normaliser import RunningMoments

PIXELS_AT_ONCE = 2**22  # of a pass without gradients, such as one over a whole rollout: it bounds the memory taken


class ImageEncoder(nn.Module):
    """Convolutions over the images that a vector begins with: (..., images.size + rest) -> (..., out_features + rest).

    Their weights are everybody's, whatever the sharing scheme: members, masks and resets begin in the layers behind
    them. Each image of several, such as all agents' in a critic's state, goes through the same ones.

    Bytes are scaled to [0, 1], floats are taken as they are. Kernels of odd size keep the image's size at stride 1.
    """

    def __init__(self, images: Images, config: NetworkConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.images = images
        self.activation, gain = ACTIVATIONS[config.activation]
        self.layers = nn.ModuleList()
        height, width, channels = images.height, images.width, images.channels
        for out, kernel, stride in config.convolutions:
            padding = kernel // 2
            layer = nn.utils.skip_init(nn.Conv2d, channels, out, kernel, stride, padding)
            nn.init.orthogonal_(layer.weight, gain, generator)
            nn.init.zeros_(layer.bias)
            self.layers.append(layer)
            height, width = ((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
            channels = out
        self.out_features = images.n * height * width * channels

    def forward(self, x: Tensor, moments: RunningMoments) -> Tensor:
        """Features of the images, then the rest, standardised by ``moments``."""
        images = self.images
        n_images = x.shape[:-1].numel() * images.n
        pixels = x[..., : images.size].reshape(n_images, images.height, images.width, images.channels)
        at_once = n_images if torch.is_grad_enabled() else max(1, PIXELS_AT_ONCE // (images.height * images.width))
        features = torch.cat([self._features(part) for part in pixels.split(at_once)])
        return torch.cat([features.reshape(*x.shape[:-1], self.out_features), moments.normalise(self.rest(x))], dim=-1)

    def rest(self, x: Tensor) -> Tensor:
        """What stands behind the images."""
        return x[..., self.images.size :]

    def _features(self, pixels: Tensor) -> Tensor:
        """pixels (M, height, width, channels) -> (M, features)."""
        y = pixels.permute(0, 3, 1, 2).float()  # (M, channels, height, width)
        if self.images.is_bytes:
            y = y / 255
        for layer in self.layers:
            y = self.activation(layer(y))
        return y.flatten(1)


def image_encoder(images: Images | None, config: NetworkConfig, generator: torch.Generator) -> ImageEncoder | None:
    """None where there are no images, or no convolutions are asked for: they are vectors then."""
    return None if images is None or not config.image else ImageEncoder(images, config, generator)
