"""Likelihood of what is lived through in the trial itself, by what is believed in its steps: VariBAD and MATE.

Contexts are taken for trials in their order (``context.order=trial``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mg2l_kalei.encoders.objectives.base import Inferred, Level, Objective
from mg2l_kalei.encoders.objectives.prediction import OutcomeDecoder
from mg2l_kalei.encoders.transitions import TransitionEncoder, present
from mg2l_kalei.losses.inference import Gaussian, kl_divergence, kl_to_prior
from mg2l_kalei.types import Metrics

N_BELIEFS = 6  # of the trial, drawn in each update, from which it is decoded,
N_DECODED = 32  # and at most how many of its transitions are


class Trajectory(Objective):
    """VariBAD's lower bound (Zintgraf et al. 2020, arXiv 1910.08348, equation 8), for z and for each z^i.

    From the posterior after t steps, rewards and next observations of the whole trial are decoded, what came before t
    and what comes after; the posterior's prior is the posterior a step before, and N(0, I) at first. Divided by the
    trial's length, and for z by the number of agents: a mean over transitions instead of their sum. In each update some
    beliefs and transitions are drawn in the place of all. Nothing is decoded from the prior, before the first step.
    """

    network_name = "trajectory_decoder"
    sees_every_step = True
    can_tell_agents_apart = False
    trains_all_by_local = True

    def __init__(self, config: Any, transition_encoder: TransitionEncoder, generator: torch.Generator) -> None:
        super().__init__(config, transition_encoder, generator)
        n_given, n_outcome = transition_encoder.n_given, transition_encoder.n_outcome
        self.network: OutcomeDecoder = OutcomeDecoder(n_given, n_outcome, config.latent_dim, generator)

    def loss(self, inferred: Inferred) -> tuple[Tensor, Metrics]:
        transition, processes = inferred.contexts.transition, inferred.processes
        given, outcome = inferred.transition_encoder.given_and_outcome(transition)  # (K, R, N, *)
        K, alive = len(given), present(transition, processes)
        steps, beliefs = (torch.randperm(K, generator=inferred.generator, device=given.device) for _ in range(2))
        steps, beliefs = steps[:N_DECODED], beliefs[:N_BELIEFS]
        counts = None if alive is None else alive[steps]
        share = 1.0 if counts is None else processes.share(counts.sum())
        z_local = inferred.local.z[beliefs]
        latents = (inferred.global_.z[beliefs].unsqueeze(-2).expand_as(z_local), z_local)
        from_global, from_local = (self.network(given[steps], outcome[steps], z, counts) for z in latents)
        surprise = (from_global + from_local) * share
        kl = kl_to_previous(inferred.global_.q).mean() / z_local.shape[-2] + kl_to_previous(inferred.local.q).mean()
        metrics: Metrics = {"encoder/trajectory_surprise": surprise.detach(), "encoder/kl_to_previous": kl.detach()}
        return surprise + self.config.kl_coef * kl / K, metrics


class Mixture(Objective):
    """Mix-MATE (Schäfer et al. 2022, arXiv 2207.02249): what all agents live through, decoded from any agent's z^i.

    The latent that the decoder is given is a mixture of the agents' own and of the team's, z, all equally likely: in
    the released code, too, the mixing weights get no gradient. The latent after t steps predicts what all agents see
    and are paid in the step after it; there it has already seen that step. Agents that have gone see zeros and are paid
    nothing. The critic's z is a component because critics have nothing else to be told here.
    """

    network_name = "team_decoder"
    sees_every_step = True
    trains_all_by_local = True

    def __init__(self, config: Any, transition_encoder: TransitionEncoder, generator: torch.Generator) -> None:
        super().__init__(config, transition_encoder, generator)
        N = transition_encoder.n_agents
        n_given, n_outcome = N * transition_encoder.n_given, N * transition_encoder.n_outcome
        self.network: OutcomeDecoder = OutcomeDecoder(n_given, n_outcome, config.latent_dim, generator, n_rewards=N)

    def loss(self, inferred: Inferred) -> tuple[Tensor, Metrics]:
        transition = inferred.contexts.transition
        there = transition.alive.unsqueeze(-1)
        given, outcome = inferred.transition_encoder.given_and_outcome(transition)
        parts = (torch.where(there, x, 0.0)[1:].flatten(2) for x in (given, outcome[..., :-1], outcome[..., -1:]))
        given, seen, paid = (x.flatten(0, 1)[None, :, None] for x in parts)  # (1, (K - 1) R, 1, *)
        outcome = torch.cat([seen, paid], dim=-1)
        q, z = mixed(inferred.global_, inferred.local)  # (K, R, 1 + N, dim)
        z = z[:-1].flatten(0, 1).unsqueeze(0)
        surprise = self.network(given, outcome, z) if len(z[0]) else 0.0 * q.mean.sum()  # nothing follows one step
        metrics: Metrics = {"encoder/team_surprise": surprise.detach()}
        if self.config.posterior != "gaussian":
            return surprise, metrics
        kl = kl_to_prior(q).mean()
        return surprise + self.config.kl_coef * kl, metrics | {"encoder/mixture_kl": kl.detach()}


def mixed(global_: Level, local: Level) -> Level:
    """The team's z and the agents' z^i, as the components of a mixture: (L, R, 1 + N, dim)."""
    levels = zip((*global_.q, global_.z), (*local.q, local.z), strict=True)
    joined = [torch.cat([of_team.unsqueeze(-2), of_agents], dim=-2) for of_team, of_agents in levels]
    return Level(Gaussian(*joined[:2]), joined[2])


def kl_to_previous(q: Gaussian) -> Tensor:
    """KL(q_t || q_{t-1}) along the first axis, of the first to N(0, I): q (L, ..., dim) -> (L, ...)."""
    previous = Gaussian._make(torch.cat([torch.zeros_like(x[:1]), x[:-1]]) for x in q)
    return kl_divergence(q, previous)
