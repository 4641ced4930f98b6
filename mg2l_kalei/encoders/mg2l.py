"""The multi-level task encoder (MG2L, IEEE TNNLS 36(8):14908-14921, 2025), as its paper has it.

One transition encoder, shared by agents and time steps; aggregation over *time* per agent to x^i; a global layer over
{x^i} to z; a local layer on x^i alone to z^i. Beyond the paper, each by option: learned prototypes as keys of the
contrast, task-conditioned reward prediction, contexts nested in one another, second-order transitions, and prediction
of what happens in other trials of the task.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import add
from typing import NamedTuple

import torch
from torch import Tensor, nn

from envs.core import EnvSpec
from mg2l_kalei.encoders.base import EncoderUse, TaskEncoder
from mg2l_kalei.encoders.figures import Reading, figures_of
from mg2l_kalei.encoders.mg2l_config import Mg2lConfig as Mg2lConfig
from mg2l_kalei.encoders.mg2l_config import problems_of
from mg2l_kalei.encoders.objectives import OBJECTIVES
from mg2l_kalei.encoders.objectives.base import Inferred, Level
from mg2l_kalei.encoders.pooling import PoolingOfRoles, PoolState
from mg2l_kalei.encoders.poolings import POOLINGS, OverAgents
from mg2l_kalei.encoders.posterior import prior_where
from mg2l_kalei.encoders.transitions import TransitionEncoder
from mg2l_kalei.losses.inference import Gaussian, kl_to_prior
from mg2l_kalei.types import Contexts, Metrics, Rollout, Step, TaskLatent, Transition


class Mg2lBelief(NamedTuple):
    n_transitions: Tensor  # ()  how many have been observed, the same in all rows
    pooled: PoolState  # state of the pooling over (B, N)
    last: Transition | None  # (B, N, ...)   where it is looked back at


class Posteriors(NamedTuple):
    global_: Gaussian  # (..., B, latent_dim)
    local: Gaussian  # (..., B, N, latent_dim)


class Mg2lEncoder(TaskEncoder):
    """See the module's docstring and ``TaskEncoder``."""

    prototypes: nn.Parameter  # (n_train_tasks, latent_dim)

    def __init__(
        self, config: Mg2lConfig, spec: EnvSpec, task_features: Tensor, n_train: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.config = config
        self.n_agents = spec.n_agents
        self.global_dim = self.local_dim = config.latent_dim * (2 if config.told == "mean_std" else 1)
        self.is_read_at_episodes, self.acts_on_samples = config.read_at == "episode", config.sampled
        width = config.hidden[-1]
        pooling = POOLINGS[config.pooling]
        n_features = config.n_reward_features if pooling.uses_reward_features else 0
        self.n_consecutive = 2 if config.second_order else 1
        self.transition_encoder = TransitionEncoder(
            spec,
            config.hidden,
            n_train,
            generator,
            tells_agents_apart=config.tells_agents_apart,
            second_order=config.second_order,
            n_reward_features=n_features,
        )
        self.time_pooling = pooling(config, width, generator)
        self.agent_pooling: OverAgents = pooling.over_agents(config, width, generator)
        if config.tells_agents_apart:
            self.agent_pooling = PoolingOfRoles(self.agent_pooling, spec.n_agents, width, generator)
        self.global_layer, self.local_layer = (pooling.posterior(config, width, generator) for _ in range(2))
        self.prototypes = nn.Parameter(torch.randn(n_train, config.latent_dim, generator=generator))
        kinds = [kind for kind in map(OBJECTIVES.__getitem__, config.objectives) if kind.is_on(config)]
        self.objectives = [kind(config, self.transition_encoder, generator) for kind in kinds]
        self.needs_whole_trials = any(objective.sees_every_step for objective in self.objectives)
        for objective in self.objectives:
            if objective.network is not None:
                self.add_module(objective.network_name, objective.network)

    @classmethod
    def problems(cls, config: Mg2lConfig, use: EncoderUse) -> Iterator[str]:
        return problems_of(config, use)

    # --- inference -----------------------------------------------------------------------------------------------

    def prior(self, task: Tensor) -> Mg2lBelief:
        pooled = self.time_pooling.initial((task.shape[0], self.n_agents))
        return Mg2lBelief(torch.zeros((), dtype=torch.int64, device=task.device), pooled, None)

    def observe(self, belief: Mg2lBelief, transition: Transition) -> Mg2lBelief:
        embedding = self.transition_encoder.after(belief.last, transition)  # (B, N, width)
        last = transition if self.config.second_order else None
        pooled = self.time_pooling.add(belief.pooled, embedding, transition.alive)
        return Mg2lBelief(belief.n_transitions + 1, pooled, last)

    def latent(
        self, belief: Mg2lBelief, *, sample: bool = False, generator: torch.Generator | None = None
    ) -> TaskLatent:
        x, is_empty = self.time_pooling.read(belief.pooled), belief.n_transitions == 0
        posteriors = Posteriors(*(prior_where(is_empty, q) for q in self._posteriors(x)))
        return self._told(posteriors, sample, generator)

    def local_latent(
        self, belief: Mg2lBelief, *, sample: bool = False, generator: torch.Generator | None = None
    ) -> Tensor:
        if self.config.actors_see == "global":
            return self.latent(belief, sample=sample, generator=generator).local
        q: Gaussian = self.local_layer(self.time_pooling.read(belief.pooled))
        return self._said(prior_where(belief.n_transitions == 0, q), sample, generator)

    def latents(
        self, rollout: Rollout, *, sample: bool = False, generator: torch.Generator | None = None
    ) -> TaskLatent:
        return self._latents(rollout, sample, generator)[0]

    def learned_latents(self, rollout: Rollout, generator: torch.Generator) -> tuple[TaskLatent, Tensor]:
        latents, q = self._latents(rollout, self.config.sampled, generator)
        coef = self.config.critic_kl_coef
        return latents, coef * kl_to_prior(q).mean() if coef else torch.zeros(())

    def _latents(
        self, rollout: Rollout, sample: bool, generator: torch.Generator | None
    ) -> tuple[TaskLatent, Gaussian]:
        """Latents (T + 1, B, ...), and the global posteriors that they are of."""
        if rollout.contexts is not None:  # held through the trial
            T = len(rollout.steps.reward)
            posteriors = self._whole_posteriors(rollout.contexts)
            held = self._told(posteriors, sample, generator)
            return TaskLatent(held.global_.expand(T + 1, -1, -1), held.local.expand(T + 1, -1, -1, -1)), posteriors[0]
        transition = rollout.transition
        embeddings = self.transition_encoder(transition)  # (T, B, N, width)
        lengths = torch.arange(embeddings.shape[0] + 1, device=embeddings.device)
        x = self.time_pooling.prefixes(embeddings, lengths, transition.alive)
        posteriors = Posteriors(*(prior_where(lengths == 0, q) for q in self._posteriors(x)))
        latents = self._told(posteriors, sample, generator)
        if self.is_read_at_episodes:
            read = last_starts(rollout.steps)  # (T + 1, B)
            row = torch.arange(read.shape[1], device=read.device)
            latents = TaskLatent(*(part[read, row] for part in latents))
            return latents, Gaussian(*(part[read, row] for part in posteriors.global_))
        return latents, posteriors.global_

    def encode(
        self, contexts: Contexts, *, sample: bool = False, generator: torch.Generator | None = None
    ) -> TaskLatent:
        return self._told(self._whole_posteriors(contexts), sample, generator)

    def _whole_posteriors(self, contexts: Contexts) -> Posteriors:
        embeddings = self.transition_encoder(contexts.transition)
        whole = torch.full((1,), embeddings.shape[0], device=embeddings.device)
        posteriors = self._posteriors(self.time_pooling.prefixes(embeddings, whole, contexts.transition.alive))
        return Posteriors(*(Gaussian(q.mean[0], q.log_std[0]) for q in posteriors))

    def _posteriors(self, x: Tensor) -> Posteriors:
        """x^i (..., N, width) to posteriors over z and each z^i."""
        return Posteriors(self._global_posterior(x), self.local_layer(x))

    def _global_posterior(self, x: Tensor) -> Gaussian:
        posterior: Gaussian = self.global_layer(self.agent_pooling.pool(x))
        return posterior

    def _told(self, posteriors: Posteriors, sample: bool, generator: torch.Generator | None) -> TaskLatent:
        """What critics and actors are told of posteriors."""
        global_ = self._said(posteriors.global_, sample, generator)
        if self.config.actors_see == "global":
            return TaskLatent(global_, global_.unsqueeze(-2).expand(*posteriors.local.mean.shape[:-1], -1))
        return TaskLatent(global_, self._said(posteriors.local, sample, generator))

    def _said(self, q: Gaussian, sample: bool, generator: torch.Generator | None) -> Tensor:
        if self.config.told == "mean_std":
            return torch.cat([q.mean, q.log_std.exp()], dim=-1)
        return self._draw(q, generator) if sample else q.mean

    def _draw(self, q: Gaussian, generator: torch.Generator | None) -> Tensor:
        """A sample; of posteriors without variance, the mean."""
        return q.sample(generator) if self.config.posterior == "gaussian" else q.mean

    # --- learning ------------------------------------------------------------------------------------------------

    @property
    def is_stochastic(self) -> bool:
        return self.config.posterior == "gaussian" and self.config.told == "mean"

    @property
    def learns(self) -> bool:
        return True

    @property
    def has_loss(self) -> bool:
        return bool(self.objectives)

    def learning_rate(self, *, early: bool) -> float:
        return self.config.encoder_lr if early else self.config.late_encoder_lr

    def critic_parameters(self) -> list[nn.Parameter]:
        modules = (*self.transition_encoder.embedding_layers, self.time_pooling, self.agent_pooling, self.global_layer)
        return [parameter for module in modules for parameter in module.parameters()]

    def fit_normaliser(self, transition: Transition) -> None:
        self.transition_encoder.fit_normaliser(transition, self.processes)

    def loss(self, contexts: Contexts, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """The sum of all objectives, on contexts of training tasks.

        Pairs of contexts of one task must stand half the batch apart. Returns a scalar and metrics under ``encoder/``.
        """
        inferred, metrics = self._inferred(contexts, generator), Metrics()
        terms: list[Tensor] = []
        for objective in self.objectives:
            term, told = objective.loss(inferred)
            terms.append(term)
            metrics |= told
        loss = reduce(add, terms)
        return loss, metrics | {"encoder/loss": loss.detach()}

    def _inferred(self, contexts: Contexts, generator: torch.Generator) -> Inferred:
        """Posteriors of contexts and of their beginnings, of this process and of all together."""
        embeddings, reward_error = self.transition_encoder.with_reward_error(contexts, self.processes)
        lengths, alive = self._context_lengths(embeddings.shape[0]), contexts.transition.alive
        x = self.time_pooling.prefixes(embeddings, lengths, alive)  # (L, R, N, width)
        q = self._global_posterior(x)
        q_local: Gaussian = self.local_layer(x if self._trains_all_by_local else x.detach())
        global_, local = (Level(posterior, self._draw(posterior, generator)) for posterior in (q, q_local))
        return Inferred(
            contexts=contexts,
            reward_error=reward_error,
            global_=global_,
            local=local,
            all_global=self._level_of_all(global_),
            all_local=self._level_of_all(local),
            task=self._of_all(contexts.task, dim=0),
            prototypes=self.prototypes,
            transition_encoder=self.transition_encoder,
            processes=self.processes,
            generator=generator,
        )

    def figures(self, unseen: Contexts, stored: Contexts, generator: torch.Generator) -> Metrics:
        inferred, known = (Reading(*self._whole_posteriors(part), part.task) for part in (unseen, stored))
        latents = self._draw(inferred.global_, generator), self._draw(inferred.local, generator)
        figures = figures_of(inferred, known, latents, self.config.temperature)
        if self.config.posterior == "gaussian":
            return figures
        return {name: value for name, value in figures.items() if not name.endswith("information")}  # no deviation

    @property
    def _trains_all_by_local(self) -> bool:
        wanted = any(objective.trains_all_by_local for objective in self.objectives)
        return wanted or self.config.local_gradient == "all_layers"

    def _level_of_all(self, own: Level) -> Level:
        return Level(Gaussian._make(map(self._of_all, own.q)), self._of_all(own.z))

    def _of_all(self, x: Tensor, dim: int = 1) -> Tensor:
        """x of all processes, whose pairs stand half the batch (axis ``dim``) apart again."""
        gather, halves = self.processes.gather, (2, -1)
        return x if self.processes.size == 1 else gather(x.unflatten(dim, halves), dim + 1).flatten(dim, dim + 1)

    def _context_lengths(self, T: int) -> Tensor:
        """1, 2, 4, ... and T, or T alone; all, where an objective asks for them."""
        if self.needs_whole_trials:
            return torch.arange(1, T + 1, device=self.prototypes.device)
        n_nested = (T - 1).bit_length()  # powers of 2 below T
        first = 0 if self.config.nested_contexts else n_nested
        return (2 ** torch.arange(first, n_nested + 1, device=self.prototypes.device)).clamp(max=T)


def last_starts(steps: Step) -> Tensor:
    """After how many steps of a trial the episode began that each belongs to, and one that were to follow: (T + 1, B).

    As ``acting.collector.Team`` reads beliefs of episodes.
    """
    starts = torch.cat([steps.episode_start, steps.ends[-1:]])
    number = torch.arange(len(starts), device=starts.device).unsqueeze(-1)
    return torch.where(starts, number, 0).cummax(0).values
