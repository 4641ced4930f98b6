"""All of MARIE's networks together: what a team observes and does as tokens, and its dynamics."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from envs.core import EnvSpec
from mg2l_kalei.losses.symlog import Bins
from mg2l_kalei.networks.normaliser import RunningMoments
from mg2l_kalei.world_models.base import Surroundings
from mg2l_kalei.world_models.marie.config import MarieConfig
from mg2l_kalei.world_models.marie.network import Dynamics, Sizes
from mg2l_kalei.world_models.marie.tokenizers import BinTokenizer, make_tokenizer

MIN_STD = 1e-2  # of observations that are standardised, which hardly varied so far


class MarieNetwork(nn.Module):
    """Tokens in and out of the dynamics; agents share all of it."""

    def __init__(self, config: MarieConfig, surroundings: Surroundings) -> None:
        super().__init__()
        spec, generator = surroundings.spec, surroundings.generator
        self.config, self.is_discrete = config, spec.is_discrete
        self.moments = RunningMoments(spec.obs_dim, min_std=MIN_STD)
        self.tokenizer = make_tokenizer(spec.obs_dim, config, generator)
        self.action_bins = Bins("an action", config.action_bins, 1.0, is_log=False)
        self.reward_bins = Bins("a reward", config.reward_bins, config.reward_limit)
        latent_dim = surroundings.latent_dim if config.task_latent else 0
        sizes = sizes_of(spec, self.tokenizer.n_tokens, self.tokenizer.n_codes, latent_dim)
        if not spec.is_discrete:
            sizes = sizes._replace(n_action_codes=config.action_bins)
        self.dynamics = Dynamics(sizes, config, generator)
        if config.code_embedding:
            self._embed_alike(generator)

    @torch.no_grad()
    def tokens(self, obs: Tensor) -> Tensor:
        """(..., obs_dim) -> (..., K) int64."""
        return self.tokenizer.encode(self.standardised(obs))

    def observations(self, tokens: Tensor) -> Tensor:
        """(..., K) int64 -> (..., obs_dim)."""
        obs = self.tokenizer.decode(tokens)
        return self.moments.denormalise(obs) if self.config.normalise_obs else obs

    def standardised(self, obs: Tensor) -> Tensor:
        """As the tokenizer is given them: (..., obs_dim)."""
        return self.moments.normalise(obs) if self.config.normalise_obs else obs

    def action_tokens(self, action: Tensor) -> Tensor:
        """(..., N) int64, or (..., N, action_dim) float -> (..., N, A) int64."""
        return action.unsqueeze(-1) if self.is_discrete else self.action_bins.index(action.clamp(-1, 1))

    def reward(self, head: Tensor) -> Tensor:
        """What the reward's head says, in units of reward: (..., N)."""
        return self.reward_bins.mean(head) if self.config.reward_head == "hl_gauss" else head

    def targets(self) -> Tensor | None:
        """Of each token, over all of them: (V, V); None: the token alone."""
        if not self.config.bin_spread or not isinstance(self.tokenizer, BinTokenizer):
            return None
        bins = self.tokenizer.bins
        return bins.probabilities(bins.value(torch.arange(bins.n, device=bins.edges.device)), self.config.bin_spread)

    @torch.no_grad()
    def _embed_alike(self, generator: torch.Generator) -> None:
        """Tables of tokens begin as random images of what the tokens stand for, of the usual size."""
        alike = self.tokenizer.likeness()
        image = alike @ torch.randn(alike.shape[-1], self.config.width, generator=generator)
        weight = self.dynamics.obs.weight
        weight.copy_(image * (weight.std() / image.std()))


def sizes_of(spec: EnvSpec, n_tokens: int, n_codes: int, latent_dim: int) -> Sizes:
    """Of the dynamics of such environments; of continuous actions, without their codes."""
    n_actions = spec.action_dim
    return Sizes(
        n_agents=spec.n_agents,
        n_tokens=n_tokens,
        n_codes=n_codes,
        n_action_tokens=1 if spec.is_discrete else n_actions,
        n_action_codes=n_actions,
        n_legal=n_actions if spec.is_discrete else 0,
        latent_dim=latent_dim,
    )
