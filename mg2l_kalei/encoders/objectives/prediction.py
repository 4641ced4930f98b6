"""Prediction of what happens in a task, from a latent of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mg2l_kalei.encoders.objectives.base import Inferred, Objective
from mg2l_kalei.encoders.pooling import linear
from mg2l_kalei.encoders.transitions import TransitionEncoder, present
from mg2l_kalei.losses.inference import Gaussian
from mg2l_kalei.losses.masking import masked_mean
from mg2l_kalei.types import Metrics

N_PREDICTED = 8  # transitions of the paired context, from its end
WIDTH = 128
LOG_STD_RANGE = (-4.0, 2.0)  # of standardised outcomes


class Predictor(nn.Module):
    """Numbers that follow from what is given and from a latent z: two hidden layers, as released decoders have."""

    def __init__(self, n_given: int, n_predicted: int, latent_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.from_given, self.from_latent = linear(n_given, WIDTH, generator), linear(latent_dim, WIDTH, generator)
        self.hidden = linear(WIDTH, WIDTH, generator)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.output = linear(WIDTH, n_predicted, generator)

    def forward(self, given: Tensor, z: Tensor) -> Tensor:
        """given (M, R, N or 1, n_given), z (K, R, N, latent_dim) -> (M, K, R, N, n_predicted)."""
        hidden = F.gelu(self.norms[0](self.from_given(given).unsqueeze(1) + self.from_latent(z)))
        predicted: Tensor = self.output(F.gelu(self.norms[1](self.hidden(hidden))))
        return predicted


class OutcomeDecoder(nn.Module):
    """What an agent sees next, or how that changes, from what is given and a latent z; from all these, what it is paid.

    As in VariBAD's released code: the error of the reward squared, as much as the mean of all squared errors of the
    observation. Here both are of standardised numbers.
    """

    def __init__(self, n_given: int, n_outcome: int, latent_dim: int, generator: torch.Generator, n_rewards: int = 1):
        super().__init__()
        self.n_rewards = n_rewards
        n_seen = n_outcome - n_rewards
        self.seen = Predictor(n_given, n_seen, latent_dim, generator)
        self.paid = Predictor(n_given + n_seen, n_rewards, latent_dim, generator)

    def forward(self, given: Tensor, outcome: Tensor, z: Tensor, alive: Tensor | None = None) -> Tensor:
        """Surprise at M transitions under each of K latents, their mean.

        given (M, R, N, n_given), outcome (M, R, N, n_outcome), rewards last, z (K, R, N, latent_dim), alive (M, R, N)
        bool, whose transitions count (None: all) -> scalar. Of given and outcome N may be 1: all latents' own.
        """
        seen, paid = outcome.tensor_split([-self.n_rewards], dim=-1)
        of_seen = self.seen(given, z) - seen.unsqueeze(1)  # (M, K, R, N, *)
        of_paid = self.paid(torch.cat([given, seen], dim=-1), z) - paid.unsqueeze(1)
        surprise = of_seen.square().mean(-1) + of_paid.square().mean(-1)
        return masked_mean(surprise, None if alive is None else alive.unsqueeze(1).expand_as(surprise))


class OutcomePredictor(nn.Module):
    """p(outcome | given, z), a diagonal Gaussian of what an agent sees next, or how that changes, and is paid.

    Contrast tells tasks apart; this tells where in a continuum of tasks z stands. In another trial of the task it
    cannot remember the trial itself (VariBAD, Zintgraf et al. 2020, arXiv 1910.08348, predicts within the trial).
    """

    def __init__(self, n_given: int, n_outcome: int, latent_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.from_given, self.from_latent = linear(n_given, WIDTH, generator), linear(latent_dim, WIDTH, generator)
        self.output = linear(WIDTH, 2 * n_outcome, generator)

    def forward(self, given: Tensor, outcome: Tensor, z: Tensor, alive: Tensor | None = None) -> Tensor:
        """The negative log-likelihood, in nats, of M transitions, each under each of K latents; their mean.

        given (M, R, N, n_given), outcome (M, R, N, n_outcome), z (K, R, N, latent_dim), alive (M, R, N) bool, whose
        transitions count (None: all) -> scalar.
        """
        hidden = F.gelu(self.from_given(given).unsqueeze(1) + self.from_latent(z))  # (M, K, R, N, WIDTH)
        mean, log_std = self.output(hidden).chunk(2, dim=-1)
        surprise = -Gaussian(mean, log_std.clamp(*LOG_STD_RANGE)).log_prob(outcome.unsqueeze(1))  # (M, K, R, N)
        return masked_mean(surprise, None if alive is None else alive.unsqueeze(1).expand_as(surprise))


class RewardPrediction(Objective):
    """Prediction of each training task's reward from what the transition encoder sees, before the reward joins."""

    @classmethod
    def is_on(cls, config: Any) -> bool:
        return bool(config.reward_prediction_coef)

    def loss(self, inferred: Inferred) -> tuple[Tensor, Metrics]:
        error = inferred.reward_error
        return self.config.reward_prediction_coef * error, {"encoder/reward_error": error.detach()}


class OutcomePrediction(Objective):
    """Prediction, from z and from each z^i, of what happens in the context that each is paired with."""

    network_name = "predictor"
    can_tell_agents_apart = False

    def __init__(self, config: Any, transition_encoder: TransitionEncoder, generator: torch.Generator) -> None:
        super().__init__(config, transition_encoder, generator)
        n_given, n_outcome = transition_encoder.n_given, transition_encoder.n_outcome
        self.network: OutcomePredictor = OutcomePredictor(n_given, n_outcome, config.latent_dim, generator)

    @classmethod
    def is_on(cls, config: Any) -> bool:
        return bool(config.prediction_coef)

    def loss(self, inferred: Inferred) -> tuple[Tensor, Metrics]:
        transition, processes = inferred.contexts.transition, inferred.processes
        given, outcome = inferred.transition_encoder.given_and_outcome(transition)
        half, alive = given.shape[1] // 2, present(transition, processes)
        given, outcome = (x[-N_PREDICTED:].roll(half, dims=1) for x in (given, outcome))  # (M, R, N, *)
        counts = None if alive is None else alive[-N_PREDICTED:].roll(half, dims=1)
        z_local = inferred.local.z
        latents = (inferred.global_.z.unsqueeze(-2).expand_as(z_local), z_local)
        from_global, from_local = (self.network(given, outcome, latent, counts) for latent in latents)
        share = 1.0 if counts is None else processes.share(counts.sum())
        surprise = (from_global + from_local) * share
        return self.config.prediction_coef * surprise, {"encoder/surprise": surprise.detach()}


class DynamicsPrediction(Objective):
    """Prediction, from z, of transitions of its own context: an ablation of the paper."""

    network_name = "dynamics_decoder"
    can_tell_agents_apart = False

    def __init__(self, config: Any, transition_encoder: TransitionEncoder, generator: torch.Generator) -> None:
        super().__init__(config, transition_encoder, generator)
        n_given, n_outcome = transition_encoder.n_given, transition_encoder.n_outcome
        self.network: OutcomeDecoder = OutcomeDecoder(n_given, n_outcome, config.latent_dim, generator)

    def loss(self, inferred: Inferred) -> tuple[Tensor, Metrics]:
        transition, processes = inferred.contexts.transition, inferred.processes
        given, outcome = inferred.transition_encoder.given_and_outcome(transition)
        alive = present(transition, processes)
        counts = None if alive is None else alive[-N_PREDICTED:]
        z = inferred.global_.z.unsqueeze(-2).expand_as(inferred.local.z)
        surprise = self.network(given[-N_PREDICTED:], outcome[-N_PREDICTED:], z, counts)
        surprise = surprise * (1.0 if counts is None else processes.share(counts.sum()))
        return surprise, {"encoder/dynamics_surprise": surprise.detach()}
