"""The multi-level task encoder (MG2L, IEEE TNNLS 36(8):14908-14921, 2025), as its paper has it.

One transition encoder, shared by agents and time steps; aggregation over *time* per agent to x^i; a global layer over
{x^i} to z; a local layer on x^i alone to z^i. Beyond the paper, each by option: learned prototypes as keys of the
contrast, task-conditioned reward prediction, contexts nested in one another, second-order transitions, and prediction
of what happens in other trials of the task.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import NamedTuple

import torch
from torch import Tensor, nn

from envs.core import EnvSpec, setting
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.encoders.figures import Reading, figures_of
from mg2l_kalei.encoders.objectives import OBJECTIVES
from mg2l_kalei.encoders.objectives.base import Inferred, Level
from mg2l_kalei.encoders.objectives.local import LOCAL_OBJECTIVES
from mg2l_kalei.encoders.pooling import PoolState
from mg2l_kalei.encoders.poolings import POOLINGS
from mg2l_kalei.encoders.posterior import prior_where
from mg2l_kalei.encoders.transitions import TransitionEncoder
from mg2l_kalei.losses.inference import Gaussian
from mg2l_kalei.types import Contexts, Metrics, Rollout, TaskLatent, Transition


@dataclass(frozen=True)
class Mg2lConfig:
    latent_dim: int = setting(16, "width of z and of each z^i", low=1)
    hidden: tuple[int, ...] = setting(
        (128, 128, 64), "widths of the transition encoder; the reward joins at the last", low=1
    )
    second_order: bool = setting(
        False,
        "see changes of observations, in this step and the one before it: where observations hide velocities",
    )
    pooling: str = setting(
        "attention_head",
        "aggregation over time; regression: of rewards on features learned by predicting them, for tasks that pay "
        "differently and are otherwise alike",
        choices=POOLINGS,
    )
    n_reward_features: int = setting(8, "regression: features in which what tasks pay is linear", low=1)
    n_heads: int = setting(4, "attention heads of the pooling", low=1)
    window: int = setting(32, "attention_blocks, transformer: transitions that are remembered", low=1)
    posterior: str = setting("gaussian", "what the layers put out", choices=("gaussian", "deterministic"))
    temperature: float = setting(0.5, "of the contrast's cosine similarities", above=0)
    pairwise_coef: float = setting(1.0, "weight of InfoNCE between contexts", low=0)
    prototype_coef: float = setting(1.0, "weight of the contrast with a learned prototype per training task", low=0)
    kl_coef: float = setting(0.1, "weight of the KL divergence from the posteriors to N(0, I)", low=0)
    reward_prediction_coef: float = setting(
        1.0, "weight of predicting each training task's reward from what the transition encoder sees", low=0
    )
    prediction_coef: float = setting(
        0.0, "weight of predicting, from z and each z^i, what happens in another trial of the task", low=0
    )
    local_objective: str = setting(
        "conditional_information",
        "what z^i is trained by: a bound on I(z; c | z^i), or KL(q(z|c) || q^i(z^i|c^i))",
        choices=LOCAL_OBJECTIVES,
    )
    local_gradient: str = setting(
        "local_layer", "what the local objective trains", choices=("local_layer", "all_layers")
    )
    nested_contexts: bool = setting(True, "train on contexts of 1, 2, 4, ... transitions too, not on whole ones alone")
    objectives: tuple[str, ...] = setting(
        ("contrast", "kl", "local", "reward_prediction", "prediction"),
        "what it is trained by, by its own loss: the terms' sum",
        choices=OBJECTIVES,
        is_late=True,
    )
    encoder_lr: float = setting(2e-3, "AdamW's learning rate of the encoder's own loss, in early iterations", above=0)
    late_encoder_lr: float = setting(2e-4, "the same after them: actors rely on what latents mean", above=0)

    def __post_init__(self) -> None:
        if not self.hidden:
            raise ValueError("hidden=[] has no layer: the reward needs one to join at")
        if self.hidden[-1] % self.n_heads:
            raise ValueError(f"n_heads={self.n_heads} does not divide the last of hidden, {self.hidden[-1]}")


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
        self.global_dim = self.local_dim = config.latent_dim
        width = config.hidden[-1]
        pooling = POOLINGS[config.pooling]
        n_features = config.n_reward_features if pooling.uses_reward_features else 0
        self.n_consecutive = 2 if config.second_order else 1
        self.transition_encoder = TransitionEncoder(
            spec, config.hidden, n_train, generator, second_order=config.second_order, n_reward_features=n_features
        )
        self.time_pooling = pooling(config, width, generator)
        self.agent_pooling = pooling.over_agents(config, width, generator)
        self.global_layer, self.local_layer = (pooling.posterior(config, width, generator) for _ in range(2))
        self.prototypes = nn.Parameter(torch.randn(n_train, config.latent_dim, generator=generator))
        kinds = [kind for kind in map(OBJECTIVES.__getitem__, config.objectives) if kind.is_on(config)]
        self.objectives = [kind(config, self.transition_encoder, generator) for kind in kinds]
        for objective in self.objectives:
            if objective.network is not None:
                self.add_module(objective.network_name, objective.network)

    @classmethod
    def problems(cls, config: Mg2lConfig, *, context_batch: int, context_length: int) -> Iterator[str]:
        if context_batch % 2:
            yield f"context.batch={context_batch} is odd: contexts are drawn in pairs"
        yield from POOLINGS[config.pooling].problems(config, context_length)

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
        global_, local = (prior_where(is_empty, q) for q in self._posteriors(x))
        return TaskLatent(self._draw(global_, sample, generator), self._draw(local, sample, generator))

    def local_latent(
        self, belief: Mg2lBelief, *, sample: bool = False, generator: torch.Generator | None = None
    ) -> Tensor:
        q: Gaussian = self.local_layer(self.time_pooling.read(belief.pooled))
        return self._draw(prior_where(belief.n_transitions == 0, q), sample, generator)

    def latents(self, rollout: Rollout) -> TaskLatent:
        if rollout.contexts is not None:  # held through the trial
            T = len(rollout.steps.reward)
            latent = self.encode(rollout.contexts)
            return TaskLatent(latent.global_.expand(T + 1, -1, -1), latent.local.expand(T + 1, -1, -1, -1))
        transition = rollout.transition
        embeddings = self.transition_encoder(transition)  # (T, B, N, width)
        lengths = torch.arange(embeddings.shape[0] + 1, device=embeddings.device)
        posteriors = self._posteriors(self.time_pooling.prefixes(embeddings, lengths, transition.alive))
        return TaskLatent(*(prior_where(lengths == 0, q).mean for q in posteriors))

    def encode(
        self, contexts: Contexts, *, sample: bool = False, generator: torch.Generator | None = None
    ) -> TaskLatent:
        return TaskLatent(*(self._draw(q, sample, generator) for q in self._posteriors(self._whole(contexts))))

    def _whole(self, contexts: Contexts) -> Tensor:
        """What whole contexts say to each agent: (R, N, width)."""
        embeddings = self.transition_encoder(contexts.transition)
        whole = torch.full((1,), embeddings.shape[0], device=embeddings.device)
        return self.time_pooling.prefixes(embeddings, whole, contexts.transition.alive)[0]

    def _posteriors(self, x: Tensor) -> Posteriors:
        """x^i (..., N, width) to posteriors over z and each z^i."""
        return Posteriors(self._global_posterior(x), self.local_layer(x))

    def _global_posterior(self, x: Tensor) -> Gaussian:
        posterior: Gaussian = self.global_layer(self.agent_pooling.pool(x))
        return posterior

    def _draw(self, q: Gaussian, sample: bool, generator: torch.Generator | None) -> Tensor:
        return q.sample(generator) if sample and self.is_stochastic else q.mean

    # --- learning ------------------------------------------------------------------------------------------------

    @property
    def is_stochastic(self) -> bool:
        return self.config.posterior == "gaussian"

    @property
    def learns(self) -> bool:
        return True

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
        q_local: Gaussian = self.local_layer(x.detach() if self.config.local_gradient == "local_layer" else x)
        global_, local = (Level(posterior, self._draw(posterior, True, generator)) for posterior in (q, q_local))
        return Inferred(
            contexts=contexts,
            lengths=lengths,
            reward_error=reward_error,
            global_=global_,
            local=local,
            all_global=self._level_of_all(global_),
            all_local=self._level_of_all(local),
            task=self._of_all(contexts.task, dim=0),
            prototypes=self.prototypes,
            transition_encoder=self.transition_encoder,
            processes=self.processes,
        )

    def figures(self, unseen: Contexts, stored: Contexts, generator: torch.Generator) -> Metrics:
        inferred, known = (Reading(*self._posteriors(self._whole(part)), part.task) for part in (unseen, stored))
        latents = self._draw(inferred.global_, True, generator), self._draw(inferred.local, True, generator)
        return figures_of(inferred, known, latents, self.config.temperature)

    def _level_of_all(self, own: Level) -> Level:
        return Level(Gaussian._make(map(self._of_all, own.q)), self._of_all(own.z))

    def _of_all(self, x: Tensor, dim: int = 1) -> Tensor:
        """x of all processes, whose pairs stand half the batch (axis ``dim``) apart again."""
        gather, halves = self.processes.gather, (2, -1)
        return x if self.processes.size == 1 else gather(x.unflatten(dim, halves), dim + 1).flatten(dim, dim + 1)

    def _context_lengths(self, T: int) -> Tensor:
        """1, 2, 4, ... and T, or T alone."""
        n_nested = (T - 1).bit_length()  # powers of 2 below T
        first = 0 if self.config.nested_contexts else n_nested
        return (2 ** torch.arange(first, n_nested + 1, device=self.prototypes.device)).clamp(max=T)
