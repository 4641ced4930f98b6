"""Acting in environments: a team's beliefs and memories, and the trials it makes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from envs.core import EnvBatch, Observation
from mg2l_kalei.encoders.base import Belief, TaskEncoder
from mg2l_kalei.networks.recall import Recall
from mg2l_kalei.types import ActionSample, Clock, Contexts, Rollout, Step, TaskLatent, Transition


class Policy(Protocol):
    """What acts: every learner. Decentralised: agent n's action depends on row n of obs, latent and memory alone."""

    @property
    def recall(self) -> Recall:
        """What the policy is told of the step before, and when it forgets."""
        ...

    def initial_memory(self, n_rows: int) -> Tensor | None:
        """(B, N, hidden) before anything is remembered; None for feed-forward policies."""
        ...

    def act(
        self,
        obs: Tensor,
        legal: Tensor | None,
        latent: Tensor,
        memory: Tensor | None,
        generator: torch.Generator,
        *,
        explore: Clock | None,
    ) -> ActionSample:
        """Actions for obs (B, N, *), as ``recall`` extends it, and latent (B, N, local_dim).

        Explored, by schedules that read the clock; None: the policy's best, which is random in nothing.
        """
        ...

    def frozen(self) -> AbstractContextManager[None]:
        """A block in which weights do not change, so that what is formed from them is formed once."""
        ...


class Held(NamedTuple):
    """Latents held through a trial, and what they were inferred from (None: they were drawn from the prior)."""

    latent: Tensor  # (B, N, local_dim)
    contexts: Contexts | None


class Past(NamedTuple):
    """What B rows have lived through of their trials, the last step last."""

    steps: Step  # (L, B, ...)
    is_known: Tensor  # (L, B) bool   False before the trial, where nobody was alive
    task: Tensor  # (B,) int64
    episode_start: Tensor  # (B,) bool   whether the next step is an episode's first


class Team:
    """A policy and an encoder acting together in B rows: each row's belief, latent and memory.

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
        self.memory: Tensor | None = None  # (B, N, hidden)
        self.episode_start: Tensor  # (B,) bool   whether the next step is an episode's first
        self._recalled: Tensor | None = None  # (B, N, size)   of the step before
        self._sample = False
        self._is_held = False

    @torch.no_grad()
    def begin(self, task: Tensor, *, sample: bool = False, held: Tensor | None = None) -> None:
        """A new trial in every row, on task (B,) int64, which the oracle alone looks at."""
        self._sample, self._is_held = sample, held is not None
        self.memory, self._recalled = self.policy.initial_memory(len(task)), None
        self.episode_start = torch.ones_like(task, dtype=torch.bool)
        if held is not None:
            self.latent = held
            return
        self.belief = self.encoder.prior(task)
        self.latent = self.encoder.local_latent(self.belief, sample=sample, generator=self.generator)

    @torch.no_grad()
    def resume(self, past: Past) -> TaskLatent:
        """The midst of a trial in every row, as if the team had lived through its past: what it then is ``told``.

        What it remembers or recalls beside its belief is lost: policies that do must not go on like this.
        """
        self.begin(past.task)
        prior = self.encoder.latent(self.belief)
        for t in range(len(past.is_known)):
            transition = Transition._make(x[t] for x in past.steps.transition)
            self.belief = self.encoder.observe(self.belief, transition)
        self.episode_start = past.episode_start
        if not len(past.is_known):
            return TaskLatent(prior.global_, self.latent)
        latent, has_past = self.encoder.latent(self.belief), past.is_known[-1].unsqueeze(-1)
        self.latent = torch.where(has_past.unsqueeze(-1), latent.local, prior.local)
        return TaskLatent(torch.where(has_past, latent.global_, prior.global_), self.latent)

    @torch.no_grad()
    def act(self, obs: Tensor, legal: Tensor | None = None, *, explore: Clock | None = None) -> ActionSample:
        """Actions for obs (B, N, obs_dim), on the present latent."""
        recall = self.policy.recall
        if self._recalled is None:
            self._recalled = recall.nothing(obs.shape[:2], obs.device)
        seen = recall.seen(obs, self._recalled, self.episode_start)
        sample = self.policy.act(seen, legal, self.latent, self.memory, self.generator, explore=explore)
        self.memory = sample.memory
        return sample

    @torch.no_grad()
    def observe(self, transition: Transition) -> None:
        """Take in what each agent lived through in this step: (B, N, ...)."""
        self._recalled = self.policy.recall.of(transition)
        self.episode_start = torch.zeros_like(self.episode_start)
        if self._is_held:
            return
        with self.timed("inference"):
            self.belief = self.encoder.observe(self.belief, transition)
            if self.encoder.is_read_at_episodes:
                return
            self.latent = self.encoder.local_latent(self.belief, sample=self._sample, generator=self.generator)

    @torch.no_grad()
    def told(self) -> TaskLatent:
        """Global latents of the present belief, for critics and never for acting; and the local ones acted on."""
        return TaskLatent(self.encoder.latent(self.belief).global_, self.latent)

    @torch.no_grad()
    def restart(self, where: Tensor) -> None:
        """A new episode within the trial, in rows where (B,) bool."""
        if self.encoder.is_read_at_episodes and not self._is_held:
            latent = self.encoder.local_latent(self.belief, sample=self._sample, generator=self.generator)
            self.latent = torch.where(where[:, None, None], latent, self.latent)
        recall, recalled = self.policy.recall, self._recalled
        self.episode_start = self.episode_start | where
        self.memory = recall.restarted(self.memory, self.policy.initial_memory(len(where)), where)
        self._recalled = recall.restarted(recalled, self._nothing(), where)

    def _nothing(self) -> Tensor | None:
        """Zeros, where something is recalled."""
        return None if self._recalled is None else torch.zeros_like(self._recalled)


def collect(
    env: EnvBatch,
    team: Team,
    task: Tensor,
    n_steps: int,
    *,
    explore: Clock | None,
    sample: bool = False,
    held: Held | None = None,
) -> Rollout:
    """One trial of ``n_steps`` in every row, on task (B,); episodes that end start anew within it."""
    team.begin(task, sample=sample, held=None if held is None else held.latent)
    steps, latent, log_prob, memory = _lived(env, team, task, n_steps, explore)
    return Rollout(steps, task, latent, log_prob, memory, None if held is None else held.contexts)


def looked_on(team: Team, trial: Rollout) -> Tensor:
    """Latents (T, B, N, local_dim) of a team that lives through a trial in which others acted."""
    team.begin(trial.task)
    latents = []
    for t, ended in enumerate(trial.steps.ends):
        latents.append(team.latent)
        team.observe(Transition._make(x[t] for x in trial.transition))
        if ended.any():
            team.restart(ended)
    return torch.stack(latents)


def continue_trials(env: EnvBatch, team: Team, past: Past, n_steps: int, *, explore: Clock | None) -> Rollout:
    """``n_steps`` more in every row, whose trials have that ``past``: ``env`` begins where it ends.

    The rollout holds latents: without its past, no encoder can infer them from it.
    """
    latents = [team.resume(past)]
    lived = _lived(env, team, past.task, n_steps, explore, latents=latents)
    return Rollout(lived.steps, past.task, lived.latent, lived.log_prob, told=_stacked(tuple(latents)))


class _Lived(NamedTuple):
    """One step of all rows, or with an axis T in front several, and what they were made with: see ``Rollout``."""

    steps: Step
    latent: Tensor
    log_prob: Tensor | None
    memory: Tensor | None


def _lived(
    env: EnvBatch,
    team: Team,
    task: Tensor,
    n_steps: int,
    explore: Clock | None,
    *,
    latents: list[TaskLatent] | None = None,
) -> _Lived:
    """``n_steps`` of all rows, from a reset on; to ``latents``, if given, those after each step are added."""
    seen = env.reset(task)
    lived: list[_Lived] = []
    with team.policy.frozen():
        for t in range(n_steps):
            one, seen = _step(env, team, seen, explore)
            lived.append(one)
            if latents is not None:
                latents.append(team.told())
            seen = _restarted(env, team, task, seen, one.steps.ends, is_on_time=(t + 1) % env.spec.episode_steps == 0)
    return _Lived._make(_stacked(column) for column in zip(*lived, strict=True))


def _step(env: EnvBatch, team: Team, seen: Observation, explore: Clock | None) -> tuple[_Lived, Observation]:
    """One step of all rows: what was lived, and what is seen after it."""
    latent, memory, episode_start = team.latent, team.memory, team.episode_start
    acted = team.act(seen.obs, seen.legal, explore=explore)
    result = env.step(acted.action)
    step = Step(
        obs=seen.obs,
        next_obs=result.obs,
        state=seen.state,
        next_state=result.state,
        action=acted.action,
        legal=seen.legal,
        next_legal=result.legal,
        reward=result.reward,
        terminated=result.terminated,
        truncated=result.truncated,
        episode_start=episode_start,
        alive=seen.alive,
        next_alive=result.alive,
    )
    team.observe(step.transition)
    log_prob = None if acted.log_prob is None else torch.where(seen.alive, acted.log_prob, 0.0)
    lived = _Lived(step, latent, log_prob, None if explore is None else memory)  # memory: for learning alone
    return lived, Observation(result.obs, result.state, result.legal, result.alive)


def _restarted(
    env: EnvBatch, team: Team, task: Tensor, seen: Observation, ended: Tensor, *, is_on_time: bool
) -> Observation:
    """What is seen next, rows that ``ended`` (B,) restarted; ``is_on_time``: all have, where episodes end on time.

    There nobody asks the device, which would have to be waited for in every step.
    """
    if not (is_on_time if env.spec.ends_on_time else ended.any()):
        return seen
    team.restart(ended)
    return env.reset(task, None if env.spec.ends_on_time else ended)


def _stacked(column: tuple[Any, ...]) -> Any:
    """Tensors (B, ...) of each step, or records of them -> (T, B, ...); None where there is none."""
    first = column[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        return torch.stack(column)
    return first._make(_stacked(inner) for inner in zip(*column, strict=True))
