"""Deterministic actors mu(o^i, z^i), and ensembles of centralised critics Q^k(s, z, a^1 ... a^N)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from envs.core import EnvSpec, Refusal
from mg2l_kalei.learners.actor import OBS_DECAY
from mg2l_kalei.networks import GroupedMlp, NetworkConfig, RunningMoments, categorical, team_network
from mg2l_kalei.processes import ALONE, Processes
from mg2l_kalei.sharing.base import ParameterSharing, have_own_weights


class DeterministicActor(nn.Module):
    """obs (..., N, obs_dim), latent (..., N, local_dim), legal (..., N, n_actions) or None -> (..., N, action_dim).

    Continuous actions are in [-bound, bound] by tanh; of discrete ones these are log-probabilities. Observations are
    standardised as those of ``Actor``.
    """

    bound: Tensor  # (N, action_dim)   1, or 0 where an agent's actions are padded

    def __init__(self, spec: EnvSpec, latent_dim: int, sharing: ParameterSharing, config: NetworkConfig) -> None:
        super().__init__()
        self.is_discrete = spec.is_discrete
        self.moments = RunningMoments(spec.obs_dim, decay=OBS_DECAY, clip=10.0, kept=sharing.type_columns)
        in_features, place_id = spec.obs_dim + latent_dim, config.agent_id
        self.body = team_network(sharing, in_features, spec.action_dim, config, output_gain=0.01, place_id=place_id)
        sizes = torch.tensor(spec.action_sizes or (spec.action_dim,) * spec.n_agents)
        self.register_buffer("bound", (torch.arange(spec.action_dim) < sizes.unsqueeze(-1)).float(), persistent=False)

    def forward(self, obs: Tensor, latent: Tensor, legal: Tensor | None = None) -> Tensor:
        x = torch.cat([self.moments.normalise(obs), latent], dim=-1)
        output = self.body(x).to(x.dtype)  # products may have been of less precision
        return categorical(output, legal).log_probs if self.is_discrete else torch.tanh(output) * self.bound

    def disturbed(self, action: Tensor, noise: Tensor) -> Tensor:
        """Continuous actions (..., N, action_dim) with noise, in units of ``bound``, which they are clipped to."""
        return torch.clamp(action + noise * self.bound, -self.bound, self.bound)

    def fit_normaliser(self, obs: Tensor, processes: Processes = ALONE) -> None:
        """Take observations (..., N, obs_dim) into their statistics, which all agents share."""
        self.moments.update(obs, processes=processes)


class EnsembleCritic(nn.Module):
    """state (..., state_dim), latent (..., global_dim), action (..., N, action_dim) -> values (..., K, V).

    ``sharing`` has the K members of the ensemble as its places. There is a value per agent, V = N, or one for all.
    Discrete actions are one-hot. States are standardised.
    """

    def __init__(
        self, spec: EnvSpec, latent_dim: int, sharing: ParameterSharing, config: NetworkConfig, *, n_values: int
    ) -> None:
        super().__init__()
        self.n_members = sharing.n_places
        self.moments = RunningMoments(spec.state_dim, clip=10.0)
        in_features = spec.state_dim + latent_dim + spec.n_agents * spec.action_dim
        self.body = GroupedMlp(sharing, in_features, n_values, config)

    def forward(self, state: Tensor, latent: Tensor, action: Tensor) -> Tensor:
        x = torch.cat([self.moments.normalise(state), latent, action.flatten(-2)], dim=-1)  # (..., in)
        x = x.unsqueeze(-2).expand(*x.shape[:-1], self.n_members, -1)
        return self.body(x).to(x.dtype)

    def fit_normaliser(self, state: Tensor, processes: Processes = ALONE) -> None:
        """Take states (..., state_dim) into the input statistics."""
        self.moments.update(state, processes=processes)


def straight_through(log_prob: Tensor, generator: torch.Generator) -> Tensor:
    """A draw from log-probabilities (..., n), one-hot, with the gradient of the Gumbel-softmax of temperature 1.

    Jang et al. 2017 (arXiv 1611.01144). What has no probability is never drawn.
    """
    gumbel = -torch.empty_like(log_prob).exponential_(generator=generator).log()
    soft = torch.softmax(log_prob + gumbel, dim=-1)
    hard = F.one_hot(soft.argmax(-1), log_prob.shape[-1]).to(soft.dtype)
    return hard + (soft - soft.detach())


@contextmanager
def fixed(network: nn.Module) -> Iterator[None]:
    """A block in which gradients go through the network and not to its parameters."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def normal_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal draws, as many as of ``like``."""
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def explored(log_prob: Tensor, legal: Tensor | None, chance: float, generator: torch.Generator) -> Tensor:
    """Drawn from log-probabilities (..., n), or with some chance from all legal actions alike: (...) int64."""
    drawn = categorical(log_prob, legal).sample(generator)
    anything = categorical(torch.zeros_like(log_prob), legal).sample(generator)
    is_random = torch.rand(drawn.shape, generator=generator, device=drawn.device) < chance
    return torch.where(is_random, anything, drawn)


def refuse_own_weights(network: nn.Module) -> None:
    """Raise Refusal where members of a network that steps agent by agent have weights of their own.

    Adam goes on moving them in the turns of others. It does so with thresholds of masks too, as published.
    """
    if have_own_weights(network):
        raise Refusal(
            "learner.actor_steps=in_turn moves own weights in others' turns; expected learner.actor_steps=together"
        )
