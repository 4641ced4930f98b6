"""Rows that a team network imagines."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from envs.core import EnvSpec, Observation, StepResult, replace_rows
from mg2l_kalei.buffers.windows import joint_state
from mg2l_kalei.world_models.base import Starts
from mg2l_kalei.world_models.team_network import Predicted, Seen, TeamNetwork


class RowState(NamedTuple):
    """Where B rows are: K steps before, and now."""

    obs: Tensor  # (B, K + 1, N, obs_dim)
    action: Tensor  # (B, K, N, action_dim) float, or (B, K, N) int64
    alive: Tensor  # (B, K + 1, N) bool
    is_known: Tensor  # (B, K + 1) bool
    elapsed: Tensor  # (B,) int64   imagined steps
    doubt: Tensor  # (B,)   squared disagreements on each of them, summed


class ImaginedRows:
    """See ``ImaginedBatch``. Observations are the mean of the ensemble's members; so are logits and rewards.

    An agent is there, and an action is legal, where that is likelier than not.
    """

    now: RowState

    def __init__(
        self,
        network: TeamNetwork,
        starts: Starts,
        latent: Tensor,
        generator: torch.Generator,
        spec: EnvSpec,
        *,
        horizon: int,
        max_spread: float,
    ) -> None:
        self.network, self.starts, self.latent, self.generator = network, starts, latent, generator
        self.horizon, self.max_spread, self.has_ends = horizon, max_spread, not spec.ends_on_time
        self.spec = spec._replace(episode_steps=horizon, ends_on_time=not (self.has_ends or max_spread))

    @property
    def spread(self) -> Tensor | None:
        """As if what members disagree on in each step were independent errors, that add up: (B,)."""
        return None if self.network.n_members == 1 else self.now.doubt.sqrt()

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        """Rows back to their starts."""
        seen, history = self.starts.seen, self.starts.history
        known = torch.cat([self.starts.is_known, torch.ones_like(tasks, dtype=torch.bool)[None]])
        begun = RowState(
            obs=torch.cat([history.obs, seen.obs[None]]).transpose(0, 1),
            action=history.action.transpose(0, 1),
            alive=torch.cat([history.alive, seen.alive[None]]).transpose(0, 1),
            is_known=known.transpose(0, 1),
            elapsed=torch.zeros_like(tasks),
            doubt=torch.zeros_like(seen.obs[:, 0, 0]),
        )
        if where is None:
            self.now, self._legal = begun, seen.legal
        else:
            self.now = replace_rows(self.now, begun, where)
            if self._legal is not None and seen.legal is not None:
                self._legal = torch.where(where[:, None, None], seen.legal, self._legal)
        obs = self.now.obs[:, -1].clone()
        alive = self.now.alive[:, -1].clone()
        return Observation(obs, joint_state(obs, alive), self._legal, alive)

    @torch.no_grad()
    def step(self, action: Tensor) -> StepResult:
        now, spec = self.now, self.spec
        actions = torch.cat([now.action, action.unsqueeze(1)], dim=1)  # (B, K + 1, N, ...)
        predicted = self._predict(now, actions)
        obs = self.network.bounded(predicted.next_obs.mean(0))
        doubt = now.doubt + self._disagreement(predicted.next_obs, now.alive[:, -1])
        alive = now.alive[:, -1] & (predicted.next_alive.mean(0) > 0)
        reward = torch.where(now.alive[:, -1], predicted.reward.mean(0), 0.0)
        terminated = self._ends(predicted.goes_on.mean(0))
        elapsed = now.elapsed + 1
        is_lost = elapsed >= self.horizon
        if self.max_spread:
            is_lost |= doubt.sqrt() > self.max_spread
        self._legal = _likely(predicted.next_legal.mean(0)) if spec.is_discrete else None
        self.now = RowState(
            obs=torch.cat([now.obs[:, 1:], obs.unsqueeze(1)], dim=1),
            action=actions[:, 1:],
            alive=torch.cat([now.alive[:, 1:], alive.unsqueeze(1)], dim=1),
            is_known=torch.cat([now.is_known[:, 1:], torch.ones_like(terminated).unsqueeze(1)], dim=1),
            elapsed=elapsed,
            doubt=doubt,
        )
        state = joint_state(obs, alive)
        return StepResult(obs, state, reward, terminated, is_lost & ~terminated, self._legal, alive)

    def scene(self, row: int) -> None:
        """Observations cannot be drawn."""

    def _predict(self, now: RowState, actions: Tensor) -> Predicted:
        E = self.network.n_members
        parts = (now.obs, actions, now.alive, now.is_known)  # (B, K + 1, ...) each
        along = [x.transpose(0, 1).unsqueeze(1).expand(-1, E, *[-1] * (x.dim() - 1)) for x in parts]
        predicted: Predicted = self.network(Seen._make([*along, self.latent.expand(E, *self.latent.shape)]))
        return predicted

    def _disagreement(self, next_obs: Tensor, alive: Tensor) -> Tensor:
        """The members' variance by that of observations, mean over what varies of the living: (B,); 0 of one member."""
        if len(next_obs) == 1:
            return torch.zeros_like(next_obs[0, :, 0, 0])
        varies = self.network.obs.var > 1e-10  # as in the errors that are logged beside it
        variance = torch.where(varies, next_obs.var(0) / self.network.obs.scale.square(), 0.0)
        of_agents = variance.sum(-1) / varies.sum().clamp(min=1)  # (B, N)
        return torch.where(alive, of_agents, 0.0).sum(-1) / alive.sum(-1).clamp(min=1)

    def _ends(self, goes_on: Tensor) -> Tensor:
        """Drawn from the chance that the task goes on, a logit (B,); (B,) bool."""
        if not self.has_ends:
            return torch.zeros_like(goes_on, dtype=torch.bool)
        chance = torch.rand(goes_on.shape, generator=self.generator, device=goes_on.device)
        return chance > torch.sigmoid(goes_on)


def _likely(logits: Tensor) -> Tensor:
    """Where it is likelier than not, and the likeliest: (..., n) bool."""
    return (logits > 0) | (logits == logits.amax(-1, keepdim=True))
