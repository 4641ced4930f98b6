"""Prediction of what happens in a task, from a latent of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mg2l_kalei.encoders.pooling import linear
from mg2l_kalei.losses.inference import Gaussian
from mg2l_kalei.losses.masking import masked_mean

WIDTH = 128
LOG_STD_RANGE = (-4.0, 2.0)  # of standardised outcomes


class OutcomePredictor(nn.Module):
    """p(outcome | given, z), a diagonal Gaussian: what an agent sees next, or how that changes, and what it is paid.

    Contrast tells tasks apart; this tells where in a continuum of tasks z stands. In another trial of the task it
    cannot remember the trial itself (VariBAD, Zintgraf et al. 2020, arXiv 1910.08348, predicts within the trial).
    """

    def __init__(self, n_given: int, n_outcome: int, latent_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.from_given, self.from_latent = linear(n_given, WIDTH, generator), linear(latent_dim, WIDTH, generator)
        self.output = linear(WIDTH, 2 * n_outcome, generator)

    def forward(self, given: Tensor, outcome: Tensor, z: Tensor, alive: Tensor | None = None) -> Tensor:
        """Surprise at M transitions under each of K latents: negative log-likelihood in nats, their mean.

        given (M, R, N, n_given), outcome (M, R, N, n_outcome), z (K, R, N, latent_dim), alive (M, R, N) bool, whose
        transitions count (None: all) -> scalar.
        """
        hidden = F.gelu(self.from_given(given).unsqueeze(1) + self.from_latent(z))  # (M, K, R, N, WIDTH)
        mean, log_std = self.output(hidden).chunk(2, dim=-1)
        log_prob = Gaussian(mean, log_std.clamp(*LOG_STD_RANGE)).log_prob(outcome.unsqueeze(1))  # (M, K, R, N)
        return -masked_mean(log_prob, None if alive is None else alive.unsqueeze(1).expand_as(log_prob))
