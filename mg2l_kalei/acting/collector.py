"""Acting in environments: a team's beliefs and recurrent states, and the trials it makes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from envs.core import EnvBatch, Observation
from mg2l_kalei.encoders.base import Belief, TaskEncoder
from mg2l_kalei.sharing.masked_linear import frozen
from mg2l_kalei.types import Acting, ActionSample, Contexts, Rollout, Transition


class Policy(Protocol):
    """What acts: every learner. Decentralised: agent n's action depends on row n of obs, latent and state alone."""

    @property
    def actor(self) -> nn.Module:
        """The network that acts."""
        ...

    def initial_recurrent_state(self, n_rows: int) -> Tensor | None:
        """(B, N, hidden) at an episode's start; None for feed-forward actors."""
        ...

    def act(
        self,
        obs: Tensor,
        legal: Tensor | None,
        local_latent: Tensor,
        recurrent_state: Tensor | None,
        generator: torch.Generator,
        *,
        explore: bool,
    ) -> ActionSample:
        """Actions for obs (B, N, obs_dim) and local_latent (B, N, local_dim): sampled if ``explore``, else the mode."""
        ...


class Held(NamedTuple):
    """Latents held through a trial, and what they were inferred from (None: they were drawn from the prior)."""

    latent: Tensor  # (B, N, local_dim)
    contexts: Contexts | None


class Team:
    """A policy and an encoder acting together in B rows: each row's belief, latent and recurrent state.

    Use: ``begin`` a trial, then ``act`` and ``observe`` in turn; ``restart`` rows whose episode ended (their belief
    stays: it is the trial's).
    """

    def __init__(
        self,
        policy: Policy,
        encoder: TaskEncoder,
        generator: torch.Generator,
        *,
        timed: Callable[[str], AbstractContextManager[None]] = lambda name: nullcontext(),
    ) -> None:
        self.policy, self.encoder, self.generator, self.timed = policy, encoder, generator, timed
        self.belief: Belief = None
        self.latent: Tensor  # (B, N, local_dim)
        self.recurrent_state: Tensor | None = None
        self._sample = False
        self._is_held = False

    @torch.no_grad()
    def begin(self, task: Tensor, *, sample: bool = False, held: Tensor | None = None) -> None:
        """A new trial in every row, on task (B,) int64, which the oracle alone looks at."""
        self._sample, self._is_held = sample, held is not None
        self.recurrent_state = self.policy.initial_recurrent_state(len(task))
        if held is not None:
            self.latent = held
            return
        self.belief = self.encoder.prior(task)
        self.latent = self.encoder.local_latent(self.belief, sample=sample, generator=self.generator)

    @torch.no_grad()
    def act(self, obs: Tensor, legal: Tensor | None = None, *, explore: bool = False) -> ActionSample:
        """Actions for obs (B, N, obs_dim), on the present latent."""
        sample = self.policy.act(obs, legal, self.latent, self.recurrent_state, self.generator, explore=explore)
        self.recurrent_state = sample.recurrent_state
        return sample

    @torch.no_grad()
    def observe(self, transition: Transition) -> None:
        """Take in what each agent lived through in this step: (B, N, ...)."""
        if self._is_held:
            return
        with self.timed("inference"):
            self.belief = self.encoder.observe(self.belief, transition)
            self.latent = self.encoder.local_latent(self.belief, sample=self._sample, generator=self.generator)

    def restart(self, where: Tensor) -> None:
        """A new episode within the trial, in rows where (B,) bool."""
        start = self.policy.initial_recurrent_state(len(where))
        if start is not None and self.recurrent_state is not None:
            self.recurrent_state = torch.where(where[:, None, None], start, self.recurrent_state)


def collect(
    env: EnvBatch,
    team: Team,
    task: Tensor,
    n_steps: int,
    *,
    explore: bool,
    sample: bool = False,
    held: Held | None = None,
) -> Rollout:
    """One trial of ``n_steps`` in every row, on task (B,); episodes that end start anew within it."""
    team.begin(task, sample=sample, held=None if held is None else held.latent)
    observation = env.reset(task)
    starts = torch.ones_like(task, dtype=torch.bool)
    steps = []
    with frozen(team.policy.actor):
        for _ in range(n_steps):
            step, observation, starts = _step(env, team, task, (observation, starts), explore)
            steps.append(step)
    step = _Step._make(_stack(column) for column in zip(*steps, strict=True))
    return Rollout(
        **{name: value for name, value in step._asdict().items() if name in Rollout._fields},
        task=task,
        acting=Acting(step.log_prob, step.recurrent_state),
        contexts=None if held is None else held.contexts,
    )


class _Step(NamedTuple):
    """One step of all rows; the names are those of ``Rollout``."""

    obs: Tensor
    next_obs: Tensor
    state: Tensor
    next_state: Tensor
    action: Tensor
    legal: Tensor | None
    next_legal: Tensor | None
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    episode_start: Tensor
    alive: Tensor
    next_alive: Tensor
    latent: Tensor
    log_prob: Tensor
    recurrent_state: Tensor | None


def _step(
    env: EnvBatch, team: Team, task: Tensor, before: tuple[Observation, Tensor], explore: bool
) -> tuple[_Step, Observation, Tensor]:
    """One step, restarting rows whose episode it ended: the step, what is seen next, and which rows start anew.

    Agents that have left do 0, so that what is inferred from them says no more than that they are not there.
    """
    seen, starts = before
    latent, recurrent_state = team.latent, team.recurrent_state
    acted = team.act(seen.obs, seen.legal, explore=explore)
    action = acted.action * (seen.alive if acted.action.dim() == 2 else seen.alive.unsqueeze(-1))
    result = env.step(action)
    team.observe(Transition(seen.obs, action, result.reward, result.obs))
    step = _Step(
        obs=seen.obs,
        next_obs=result.obs,
        state=seen.state,
        next_state=result.state,
        action=action,
        legal=seen.legal,
        next_legal=result.legal,
        reward=result.reward,
        terminated=result.terminated,
        truncated=result.truncated,
        episode_start=starts,
        alive=seen.alive,
        next_alive=result.alive,
        latent=latent,
        log_prob=acted.log_prob,
        recurrent_state=recurrent_state if explore else None,  # for learning alone
    )
    ended = result.terminated | result.truncated
    if ended.any():
        team.restart(ended)
        return step, env.reset(task, ended), ended
    return step, Observation(result.obs, result.state, result.legal, result.alive), ended


def _stack(column: tuple[Tensor | None, ...]) -> Tensor | None:
    """(B, ...) at each step -> (T, B, ...)."""
    tensors = [tensor for tensor in column if tensor is not None]
    return torch.stack(tensors) if tensors else None
