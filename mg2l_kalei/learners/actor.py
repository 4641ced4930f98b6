"""Decentralised stochastic actors pi(a^i | o^i, z^i), built from a sharing scheme's layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from envs.core import EnvSpec
from mg2l_kalei.networks import (
    ActionDistribution,
    DiagonalGaussian,
    Memory,
    NetworkConfig,
    RunningMoments,
    TaskGates,
    categorical,
    image_encoder,
    team_network,
)
from mg2l_kalei.processes import ALONE, Processes
from mg2l_kalei.sharing.base import ParameterSharing

OBS_DECAY = 0.98  # weight of what was seen before, per rollout: what a policy sees moves as it learns


class Actor(nn.Module):
    """obs (..., N, obs_dim), latent (..., N, local_dim), legal (..., N, n_actions) or None -> action distributions.

    Observations are standardised, or seen through convolutions that all agents share where they are images (see
    ``ImageEncoder``); latents are not: they are near N(0, I) already, and dimensions that tell nothing,
    which the encoder keeps near 0, would be blown up to noise as large as what the task shows in.

    With ``task_gates``, factors set by the latent (see ``TaskGates``) scale standardised observations, activations of
    hidden layers and, of recurrent actors, what the GRU reads.

    Means of continuous actions are kept in (-1, 1) by tanh: environments clip actions to that box, and a mean that has
    drifted far out of it gets no gradient from what clipping made of its samples.
    """

    action_mask: Tensor | None  # (N, action_dim) bool

    def __init__(
        self,
        spec: EnvSpec,
        latent_dim: int,
        sharing: ParameterSharing,
        config: NetworkConfig,
        *,
        initial_log_std: float,
    ) -> None:
        super().__init__()
        self.is_discrete = spec.is_discrete
        self.eyes = image_encoder(spec.obs_images, config, sharing.generator)
        n_pixels, n_features = (0, 0) if self.eyes is None else (self.eyes.images.size, self.eyes.out_features)
        n_others = spec.obs_dim - n_pixels
        self.moments = RunningMoments(n_others, decay=OBS_DECAY, clip=10.0, kept=sharing.type_columns)
        self.log_std = None if spec.is_discrete else sharing.vector(spec.action_dim, initial_log_std)
        in_features, place_id = n_features + n_others + latent_dim, config.agent_id
        self.body = team_network(sharing, in_features, spec.action_dim, config, output_gain=0.01, place_id=place_id)
        widths = (n_features + n_others, *config.hidden)
        self.gates = TaskGates(sharing, latent_dim, widths) if config.task_gates else None
        is_padded = bool(spec.action_sizes) and min(spec.action_sizes) < spec.action_dim
        sizes = torch.tensor(spec.action_sizes or (spec.action_dim,) * spec.n_agents)
        mask = torch.arange(spec.action_dim) < sizes.unsqueeze(-1)
        self.register_buffer("action_mask", mask if is_padded else None, persistent=False)

    def forward(
        self, obs: Tensor, latent: Tensor, legal: Tensor | None = None, memory: Memory | None = None
    ) -> tuple[ActionDistribution, Tensor | None]:
        """The distributions and, of recurrent actors, whose axes are (L, S, N, ...), the state after each step."""
        seen = self.moments.normalise(obs) if self.eyes is None else self.eyes(obs, self.moments)
        gates: list[list[Tensor]] = []
        if self.gates is not None:
            of_obs, *of_hidden = self.gates(latent)
            seen, gates = seen * of_obs, [of_hidden]
        x, states = torch.cat([seen, latent], dim=-1), None
        if memory is None:
            output = self.body(x, *gates)
        else:
            output, states = self.body(x, memory, *gates)
        output = output.to(x.dtype)  # products may have been of less precision
        if self.log_std is None:
            return categorical(output, legal), states
        return DiagonalGaussian(torch.tanh(output), self.log_std(), self.action_mask), states

    def fit_normaliser(self, obs: Tensor, processes: Processes = ALONE) -> None:
        """Take observations (..., N, obs_dim) into their statistics, which all agents share."""
        self.moments.update(obs if self.eyes is None else self.eyes.rest(obs), processes=processes)
