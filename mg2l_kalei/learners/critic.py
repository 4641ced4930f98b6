"""Centralised critics V^i(s, z), with normalised values."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from envs.core import EnvSpec
from mg2l_kalei.networks import GroupedMlp, Memory, MlpConfig, RecurrentMlp, RunningMoments
from mg2l_kalei.sharing.full import FullConfig, FullSharing
from mg2l_kalei.sharing.independent import IndependentConfig, IndependentSharing

RETURNS_DECAY = 0.9  # weight of what was seen before, per rollout: returns drift as the policy improves


class Critic(nn.Module):
    """state (..., state_dim), latent (..., global_dim) -> a normalised value per agent (..., N).

    One network with a value per agent, or (``per_agent``) a network for each. ``moments`` turns its outputs into
    returns.
    """

    def __init__(
        self,
        spec: EnvSpec,
        latent_dim: int,
        config: MlpConfig,
        generator: torch.Generator,
        *,
        per_agent: bool,
        recurrent: bool = False,
    ) -> None:
        super().__init__()
        self.state_moments = RunningMoments(spec.state_dim, clip=10.0)
        self.moments = RunningMoments(1, decay=RETURNS_DECAY)
        config = dataclasses.replace(config, member_id=False)
        in_features = spec.state_dim + latent_dim
        self.n_networks = spec.n_agents if per_agent else 1
        network = RecurrentMlp if recurrent else GroupedMlp
        if per_agent:
            independent = IndependentSharing(IndependentConfig(), spec.n_agents, generator)
            self.body = network(independent, in_features, 1, config)
        else:
            self.body = network(FullSharing(FullConfig(), 1, generator), in_features, spec.n_agents, config)

    def forward(self, state: Tensor, latent: Tensor, memory: Memory | None = None) -> tuple[Tensor, Tensor | None]:
        """The values and, of recurrent critics, whose axes are (L, S, ...), each network's state after each step."""
        x = torch.cat([self.state_moments.normalise(state), latent], dim=-1).unsqueeze(-2)  # (..., 1, in)
        x, states = x.expand(*x.shape[:-2], self.n_networks, -1), None
        if memory is None:
            value = self.body(x)  # (..., N, 1) or (..., 1, N)
        else:
            value, states = self.body(x, memory)
        return value.flatten(-2), states

    @torch.no_grad()
    def fit_returns(self, returns: Tensor) -> None:
        """Take returns (...) into the moments, and rescale the last layer so that its values in units of reward stay.

        PopArt (van Hasselt et al. 2016): without it, bootstrapped values grow with the moments they are scaled by.
        """
        is_first, mean, std = self.moments.count == 0, self.moments.mean.clone(), self.moments.std.clone()
        self.moments.update(returns.unsqueeze(-1))
        if is_first:  # values mean nothing yet: better around the mean return than around 0
            return
        weight, bias = self.body.output.weight, self.body.output.bias
        weight.mul_(std / self.moments.std)
        bias.copy_((bias * std + mean - self.moments.mean) / self.moments.std)

    def fit_normaliser(self, state: Tensor) -> None:
        """Take states (..., state_dim) into the input statistics."""
        self.state_moments.update(state)
