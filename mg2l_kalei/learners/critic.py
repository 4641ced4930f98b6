"""Critics V^i(s, z), centralised, or V^i(o^i, z), with normalised values."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from envs.core import EnvSpec
from mg2l_kalei.networks import Memory, NetworkConfig, RunningMoments, image_encoder, team_network
from mg2l_kalei.processes import ALONE, Processes
from mg2l_kalei.sharing.base import ParameterSharing
from mg2l_kalei.sharing.full import FullConfig, FullSharing
from mg2l_kalei.sharing.independent import IndependentConfig, IndependentSharing

RETURNS_DECAY = 0.9  # weight of what was seen before, per rollout: returns drift as the policy improves


class Critic(nn.Module):
    """state (..., state_dim), latent (..., global_dim) -> a normalised value per agent (..., N).

    One network with a value per agent, or (``per_agent``) a network for each. With a ``sharing`` scheme of its own it
    judges each agent's observation (..., N, obs_dim) instead, by networks that agents share as the scheme says.
    ``moments`` turns its outputs into returns: one scale for the team, or (``scale_per_agent``, of states) one for each
    agent, where agents are paid otherwise. Images are seen through convolutions, the same for all of its networks.
    """

    def __init__(
        self,
        spec: EnvSpec,
        latent_dim: int,
        config: NetworkConfig,
        generator: torch.Generator,
        *,
        per_agent: bool,
        scale_per_agent: bool = False,
        sharing: ParameterSharing | None = None,
    ) -> None:
        super().__init__()
        self.is_local = sharing is not None
        per_agent |= self.is_local
        width, images = spec.state_dim, spec.state_images
        if self.is_local:
            width, images = spec.obs_dim, spec.obs_images
        self.eyes = image_encoder(images, config, generator)
        n_pixels, n_features = (0, 0) if self.eyes is None else (self.eyes.images.size, self.eyes.out_features)
        kept = () if sharing is None else sharing.type_columns
        self.state_moments = RunningMoments(width - n_pixels, clip=10.0, kept=kept)
        n_scales = spec.n_agents if scale_per_agent and not self.is_local else 1
        self.moments = RunningMoments(n_scales, decay=RETURNS_DECAY)
        in_features = n_features + width - n_pixels + latent_dim
        self.n_networks = spec.n_agents if per_agent else 1
        self.sharing: ParameterSharing
        if sharing is not None:
            self.sharing = sharing
        elif per_agent:
            self.sharing = IndependentSharing(IndependentConfig(), range(spec.n_agents), generator)
        else:
            self.sharing = FullSharing(FullConfig(), (0,), generator)
        outputs, place_id = 1 if per_agent else spec.n_agents, self.is_local and config.agent_id
        self.body = team_network(self.sharing, in_features, outputs, config, place_id=place_id)

    def forward(self, state: Tensor, latent: Tensor, memory: Memory | None = None) -> tuple[Tensor, Tensor | None]:
        """The values and, of recurrent critics, whose axes are (L, S, ...), each network's state after each step."""
        x = self.state_moments.normalise(state) if self.eyes is None else self.eyes(state, self.state_moments)
        latent, states = latent.unsqueeze(-2), None
        if self.is_local:
            latent = latent.expand(*x.shape[:-1], -1)
        else:
            x = x.unsqueeze(-2)
        x = torch.cat([x, latent], dim=-1)
        x = x.expand(*x.shape[:-2], self.n_networks, -1)  # (..., networks, in)
        if memory is None:
            value = self.body(x)  # (..., N, 1) or (..., 1, N)
        else:
            value, states = self.body(x, memory)
        return value.to(x.dtype).flatten(-2), states  # products may have been of less precision

    @torch.no_grad()
    def fit_returns(self, returns: Tensor, alive: Tensor, processes: Processes = ALONE) -> None:
        """Take returns (..., N) of those alive (..., N) into the moments; rescale the last layer to keep its values.

        All of them but what hangs on a mask whose threshold would pass 1, see ``MaskedLinear.rescale``.

        PopArt (van Hasselt et al. 2016): without it, bootstrapped values grow with the moments they are scaled by.
        """
        moments = self.moments
        is_first, mean, std = moments.count == 0, moments.mean.clone(), moments.std.clone()
        if len(mean) > 1:
            moments.update(returns, alive, processes)
        else:
            counted = returns.flatten() if alive.all() else returns[alive]
            moments.update(counted.unsqueeze(-1), processes=processes)
        # Values that mean nothing yet are left as they are: better around the mean return than around 0.
        mean, std = torch.where(is_first, moments.mean, mean), torch.where(is_first, moments.std, std)
        if self.is_local:
            self.body.output.rescale((std / moments.std).float(), ((mean - moments.mean) / moments.std).float())
            return
        weight, bias = self.body.output.weight, self.body.output.bias
        old, new, shift = (self._along_outputs(x, bias) for x in (std, moments.std, mean - moments.mean))
        weight.mul_((old / new).view(*old.shape, *[1] * (weight.dim() - old.dim())))
        bias.copy_((bias * old + shift) / new)

    def _along_outputs(self, x: Tensor, bias: Tensor) -> Tensor:
        """A number for the team or each agent (1 or N,), to multiply the last layer's bias (N,) or (N, 1) by."""
        return x if bias.dim() == 1 else x.unsqueeze(-1)

    def fit_normaliser(self, state: Tensor, processes: Processes = ALONE) -> None:
        """Take states (..., state_dim) into the input statistics."""
        self.state_moments.update(state if self.eyes is None else self.eyes.rest(state), processes=processes)
