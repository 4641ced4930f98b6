"""Observations as tokens, by one tokenizer for all agents."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mg2l_kalei.losses.symlog import Bins
from mg2l_kalei.types import Metrics
from mg2l_kalei.world_models.marie.config import MarieConfig
from mg2l_kalei.world_models.marie.quantisers import Codebook, FiniteScalars, Quantised, Quantiser


class Tokenizer(nn.Module, ABC):
    """``n_tokens`` tokens of an observation, each one of ``n_codes``."""

    n_tokens: int
    n_codes: int

    @abstractmethod
    def encode(self, obs: Tensor) -> Tensor:
        """(..., obs_dim) -> (..., K) int64."""

    @abstractmethod
    def decode(self, tokens: Tensor) -> Tensor:
        """(..., K) int64 -> (..., obs_dim)."""

    @abstractmethod
    def likeness(self) -> Tensor:
        """Numbers by which tokens are alike that stand for like things: (n_codes, *)."""

    def loss(self, obs: Tensor, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """On observations (S, obs_dim): scalar, metrics. Codes that follow what is coded do so here."""
        raise NotImplementedError(f"{type(self).__name__} has nothing to learn")

    @property
    def learns(self) -> bool:
        return any(True for _ in self.parameters())


class BinTokenizer(Tokenizer):
    """One token for each dimension, the bin of its symlog, as MARIE's on particle worlds.

    What is out of range is clamped, with a warning; the published code fails.
    """

    def __init__(self, obs_dim: int, config: MarieConfig) -> None:
        super().__init__()
        self.bins = Bins("an observation", config.n_bins, config.bin_limit)
        self.n_tokens, self.n_codes = obs_dim, config.n_bins

    def encode(self, obs: Tensor) -> Tensor:
        return self.bins.index(obs)

    def decode(self, tokens: Tensor) -> Tensor:
        return self.bins.value(tokens)

    def likeness(self) -> Tensor:
        """Waves along the bins' scale, the shortest a sixteenth of it."""
        share = self.bins.centres / self.bins.limit  # (n_codes,)
        phase = share.unsqueeze(-1) * torch.pi * 2.0 ** torch.arange(-1, 4, device=share.device)
        return torch.cat([phase.sin(), phase.cos(), share.unsqueeze(-1)], dim=-1)


class AutoEncoder(Tokenizer):
    """An MLP to K codes and another back, with a quantiser between them: mean |x - x'| + coefficient * commitment."""

    def __init__(self, obs_dim: int, config: MarieConfig, quantiser: Quantiser, generator: torch.Generator) -> None:
        super().__init__()
        self.quantiser, self.n_tokens, self.n_codes = quantiser, config.n_tokens, quantiser.n_codes
        self.commitment_coef = config.commitment_coef
        size, hidden = config.n_tokens * quantiser.code_dim, config.tokenizer_hidden
        self.encoder = three_layers(obs_dim, hidden, size, generator)
        self.decoder = three_layers(size, hidden, obs_dim, generator)

    def encode(self, obs: Tensor) -> Tensor:
        quantised: Quantised = self.quantiser(self.before_codes(obs))
        return quantised.token

    def decode(self, tokens: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(self.quantiser.codes(tokens).flatten(-2))
        return decoded

    def likeness(self) -> Tensor:
        return self.quantiser.codes(torch.arange(self.n_codes, device=next(self.parameters()).device))

    def loss(self, obs: Tensor, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        z = self.before_codes(obs)  # (S, K, D)
        quantised = self.quantiser(z)
        off = (self.decoder(quantised.code.flatten(-2)) - obs).abs().mean()
        self.quantiser.follow(z.detach().flatten(0, -2), quantised.token.flatten(), generator)
        metrics: Metrics = {
            "world_model/token_error": off.detach(),
            "world_model/commitment": quantised.loss.detach(),
            "world_model/codes_used": quantised.token.unique().numel() / self.n_codes,
        }
        return off + self.commitment_coef * quantised.loss, metrics

    def before_codes(self, obs: Tensor) -> Tensor:
        """(..., obs_dim) -> (..., K, D)."""
        z: Tensor = self.encoder(obs)
        return z.unflatten(-1, (self.n_tokens, -1))


def three_layers(in_features: int, hidden: int, out_features: int, generator: torch.Generator) -> nn.Sequential:
    """Linear layers with GELU between them, of PyTorch's usual initial weights."""
    sizes = [(in_features, hidden), (hidden, hidden), (hidden, out_features)]
    layers: list[nn.Module] = []
    for in_size, out_size in sizes:
        linear: nn.Linear = nn.utils.skip_init(nn.Linear, in_size, out_size)
        bound = in_size**-0.5
        nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
        nn.init.uniform_(linear.bias, -bound, bound, generator=generator)
        layers += [linear, nn.GELU()]
    return nn.Sequential(*layers[:-1])


def make_tokenizer(obs_dim: int, config: MarieConfig, generator: torch.Generator) -> Tokenizer:
    """The one that ``config.tokenizer`` names."""
    if config.tokenizer == "bins":
        return BinTokenizer(obs_dim, config)
    if config.tokenizer == "fsq":
        return AutoEncoder(obs_dim, config, FiniteScalars(config.levels), generator)
    codebook = Codebook(
        config.n_codes, config.code_dim, generator, decay=config.code_decay, revive_below=config.revive_below
    )
    return AutoEncoder(obs_dim, config, codebook, generator)
