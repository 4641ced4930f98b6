"""An ensemble of networks that predict what a team sees next: an MLP per agent, shared, with attention over agents."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from envs.core import EnvSpec
from mg2l_kalei.networks import RunningMoments

CLIP = 10.0  # deviations, of what is seen and of what is predicted
USUAL = 3.0  # initial logit of what is usually so: an episode goes on, an agent stays, an action is legal


class Seen(NamedTuple):
    """W steps of B teams in each of E batches, the last one the present: what a prediction is made of."""

    obs: Tensor  # (W, E, B, N, obs_dim)
    action: Tensor  # (W, E, B, N, action_dim) float, or (W, E, B, N) int64
    alive: Tensor  # (W, E, B, N) bool
    is_known: Tensor  # (W, E, B) bool   others count as nothing
    latent: Tensor  # (E, B, latent_dim)   of the task


class Predicted(NamedTuple):
    """By E members, of B teams each."""

    next_obs: Tensor  # (E, B, N, obs_dim)
    reward: Tensor  # (E, B, N)
    goes_on: Tensor  # (E, B)   logit that the task has not ended
    next_alive: Tensor  # (E, B, N)   logits
    next_legal: Tensor  # (E, B, N, n_actions)   logits; n_actions = 0 of continuous ones


class MemberLinear(nn.Module):
    """(E, M, in) -> (E, M, out), each member by weights of its own."""

    def __init__(self, n_members: int, in_features: int, out_features: int, generator: torch.Generator) -> None:
        super().__init__()
        draw = torch.randn(n_members, in_features, out_features, generator=generator)
        self.weight = nn.Parameter(draw / math.sqrt(max(1, in_features)))
        self.bias = nn.Parameter(torch.zeros(n_members, 1, out_features))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class TeamNetwork(nn.Module):
    """See the module's docstring. Observation changes are predicted in units of their deviation, as rewards are.

    Entries that change by the same in every step, such as a clock's, go on changing by that.
    """

    def __init__(
        self,
        spec: EnvSpec,
        latent_dim: int,
        generator: torch.Generator,
        *,
        n_members: int,
        n_steps: int,
        width: int,
        n_heads: int,
    ) -> None:
        super().__init__()
        self.n_members, self.n_heads, self.n_actions = n_members, n_heads, spec.action_dim if spec.is_discrete else 0
        self.shared_reward = spec.shared_reward
        self.obs, self.change = RunningMoments(spec.obs_dim, clip=CLIP), RunningMoments(spec.obs_dim)
        self.reward = RunningMoments(1)
        self.widths = (spec.obs_dim, 1, 1, 1, self.n_actions)  # change, reward, goes on, next alive, next legal
        in_features = n_steps * (spec.obs_dim + spec.action_dim + 1) + latent_dim + spec.n_agents
        sizes = {"first": (in_features, width), "second": (width, width), "attention": (width, 3 * width)}
        sizes |= {"mixed": (width, width), "third": (width, width), "fourth": (width, width)}
        self.layers = nn.ModuleDict({k: MemberLinear(n_members, *size, generator) for k, size in sizes.items()})
        output = MemberLinear(n_members, width, sum(self.widths), generator)
        output.weight.data.mul_(0.1)
        output.bias.data[..., spec.obs_dim + 1 :] = USUAL
        self.layers["output"] = output

    def forward(self, seen: Seen) -> Predicted:
        E, B, N = seen.alive.shape[1:]
        x = self._input(seen).view(E, B * N, -1)
        x = self.layers["second"](F.silu(self.layers["first"](x)))
        x = x + self._attended(F.layer_norm(x, x.shape[-1:]), seen.alive[-1])
        x = x + self.layers["fourth"](F.silu(self.layers["third"](F.layer_norm(x, x.shape[-1:]))))
        parts = self.layers["output"](F.silu(x)).view(E, B, N, -1).split(self.widths, dim=-1)
        change, reward, goes_on, next_alive, next_legal = parts
        reward = self.reward.denormalise(reward).squeeze(-1)
        if self.shared_reward:
            reward = reward.mean(-1, keepdim=True).expand(E, B, N)
        next_obs = seen.obs[-1] + change * self._moving() + self.change.shift
        return Predicted(next_obs, reward, goes_on.squeeze(-1).mean(-1), next_alive.squeeze(-1), next_legal)

    def error(self, next_obs: Tensor, true: Tensor) -> Tensor:
        """Of observations (..., obs_dim), in deviations of their changes; 0 where these are always the same."""
        moving = self._moving()
        return torch.where(moving > 0, (next_obs - true) / moving.clamp(min=1e-12), 0.0)

    def bounded(self, obs: Tensor) -> Tensor:
        """Observations (..., obs_dim), no farther from their mean than ``CLIP`` deviations."""
        reach = CLIP * self.obs.scale
        return obs.clamp(self.obs.shift - reach, self.obs.shift + reach)

    def _moving(self) -> Tensor:
        """Deviation of the change of each entry of an observation, 0 where it is always the same: (obs_dim,)."""
        return torch.where(self.change.var > 1e-10, self.change.scale, 0.0)

    def _input(self, seen: Seen) -> Tensor:
        """(E, B, N, in): what each agent sees and does, now and in the steps before, the task, and who it is."""
        action = F.one_hot(seen.action, self.n_actions).to(seen.obs.dtype) if self.n_actions else seen.action
        known = (seen.is_known.unsqueeze(-1) & seen.alive).unsqueeze(-1)  # (W, E, B, N, 1)
        steps = torch.cat([self.obs.normalise(seen.obs), action.clamp(-1, 1), known.to(action.dtype)], dim=-1)
        E, B, N = seen.alive.shape[1:]
        steps = torch.where(known, steps, 0.0).movedim(0, -2).flatten(-2)  # (E, B, N, W *)
        who = torch.eye(N, device=steps.device).expand(E, B, N, N)
        return torch.cat([steps, seen.latent.unsqueeze(-2).expand(E, B, N, -1), who], dim=-1)

    def _attended(self, x: Tensor, alive: Tensor) -> Tensor:
        """x (E, B N, width), alive (E, B, N) -> what agents take from those that are there: (E, B N, width)."""
        E, B, N = alive.shape
        heads = self.layers["attention"](x).view(E * B, N, 3, self.n_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (E B, H, N, width / H) each
        there = alive.reshape(E * B, 1, 1, N)
        mask = None if there.all() else there | ~there.any(-1, keepdim=True)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        result: Tensor = self.layers["mixed"](mixed.transpose(1, 2).reshape(E, B * N, -1))
        return result
