"""The transition encoder: one MLP for every agent and time step, on standardised inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from envs.core import EnvSpec
from mg2l_kalei.encoders.pooling import linear
from mg2l_kalei.encoders.regression import RewardFeatures, numbers_of
from mg2l_kalei.losses.masking import mean_squared_error
from mg2l_kalei.networks.normaliser import RunningMoments
from mg2l_kalei.processes import ALONE, Processes
from mg2l_kalei.types import Contexts, Transition

ACTIVATION: type[nn.Module] = nn.GELU  # ReLU would save about 4 % of an iteration on a CPU


class LastLayer(nn.Module):
    """One more layer, at which the reward joins; beside it, a linear head predicts the reward of each training task.

    With ``n_agents`` above 1, the reward of each agent in each task.
    """

    def __init__(
        self, in_features: int, width: int, n_tasks: int, generator: torch.Generator, n_agents: int = 1
    ) -> None:
        super().__init__()
        self.n_agents = n_agents
        self.linear = linear(in_features + 1, width, generator)
        self.norm = nn.LayerNorm(width)
        self.activation = ACTIVATION()
        self.reward_heads = linear(in_features, n_tasks * n_agents, generator)

    @property
    def embedding_layers(self) -> tuple[nn.Module, ...]:
        """The layers of it that gradients of embeddings reach."""
        return self.linear, self.norm

    def forward(self, known: Tensor, reward: Tensor) -> Tensor:
        """known (..., in_features), reward (..., 1) -> (..., width)."""
        embedding: Tensor = self.activation(self.norm(self.linear(torch.cat([known, reward], dim=-1))))
        return embedding

    def error(
        self, known: Tensor, reward: Tensor, task: Tensor, alive: Tensor | None = None, processes: Processes = ALONE
    ) -> Tensor:
        """Mean squared error of predicting each reward (..., N, 1) by the head of training task (..., N, 1) int64.

        Over the entries where ``alive`` (..., N) is True; None: over all.
        """
        head = task if self.n_agents == 1 else task * self.n_agents + numbers_of(task)
        return mean_squared_error(self.reward_heads(known).gather(-1, head), reward, alive, processes)


class TransitionEncoder(nn.Module):
    """(o, a, r, o') of one agent to an embedding: (..., N, *) -> (..., N, hidden[-1]).

    The reward joins (o, a, o') at the last layer. Before it, the reward (standardised) that each training task would
    have paid is predicted: what the layers must know to tell tasks apart by their rewards; with ``tells_agents_apart``,
    that each agent would have been paid. With ``n_reward_features``, ``RewardFeatures`` of that number are in the last
    layer's place: embeddings are (..., N, n_reward_features + 1).
    With ``second_order``, o' is told by the change from o, and the change before it and its action are seen too, where
    they are known: forces show in this where observations hide velocities.
    """

    def __init__(
        self,
        spec: EnvSpec,
        hidden: tuple[int, ...],
        n_tasks: int,
        generator: torch.Generator,
        *,
        tells_agents_apart: bool = False,
        second_order: bool = False,
        n_reward_features: int = 0,
    ) -> None:
        super().__init__()
        self.n_actions = spec.action_dim if spec.is_discrete else 0
        self.second_order, self.n_agents, self.n_tasks = second_order, spec.n_agents, n_tasks
        self.n_given = (1 + second_order) * (spec.obs_dim + spec.action_dim)
        self.n_outcome = spec.obs_dim + 1
        in_features = self.n_given + spec.obs_dim
        self.moments = RunningMoments(in_features + 1, clip=10.0)
        layers: list[nn.Module] = []
        for width in hidden[:-1]:
            layers += [linear(in_features, width, generator), nn.LayerNorm(width), ACTIVATION()]
            in_features = width
        self.body = nn.Sequential(*layers)
        n_told_apart = spec.n_agents if tells_agents_apart else 1
        self.last: LastLayer | RewardFeatures = (
            RewardFeatures(in_features, n_reward_features, n_tasks, generator, n_told_apart)
            if n_reward_features
            else LastLayer(in_features, hidden[-1], n_tasks, generator, n_told_apart)
        )

    @property
    def embedding_layers(self) -> list[nn.Module]:
        """The layers that gradients of embeddings reach."""
        return [self.body, *self.last.embedding_layers] if self.last.embedding_layers else []

    def forward(self, transition: Transition) -> Tensor:
        """Of transitions in their order: (T, ..., N, *); those of agents that were not there mean nothing."""
        return self._embed(self._inputs(transition, self._before(transition)))[0]

    def after(self, before: Transition | None, transition: Transition) -> Tensor:
        """Of one transition, and what came before it: (..., N, *)."""
        return self._embed(self._inputs(transition, before))[0]

    def with_reward_error(self, contexts: Contexts, processes: Processes = ALONE) -> tuple[Tensor, Tensor]:
        """Embeddings (T, R, N, *), and the mean squared error of the own task's reward prediction."""
        inputs = self._inputs(contexts.transition, self._before(contexts.transition))
        embeddings, body = self._embed(inputs)
        task = contexts.task.view(1, -1, 1, 1).expand(*body.shape[:-1], 1)
        alive = present(contexts.transition, processes)
        return embeddings, self.last.error(body, inputs[..., -1:], task, alive, processes)

    def given_and_outcome(self, transition: Transition) -> tuple[Tensor, Tensor]:
        """What was known when acting, and what came of it: (T, ..., N, n_given) and (T, ..., N, n_outcome)."""
        given, outcome = self._inputs(transition, self._before(transition)).split((self.n_given, self.n_outcome), -1)
        return given, outcome

    def fit_normaliser(self, transition: Transition, processes: Processes = ALONE) -> None:
        raw, alive = self._raw(transition, self._before(transition)), present(transition)
        self.moments.update(raw if alive is None else raw[alive], processes=processes)

    def _embed(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings, and what is known before the reward joins."""
        body = self.body(inputs[..., :-1])
        return self.last(body, inputs[..., -1:]), body

    def _inputs(self, transition: Transition, before: Transition | None) -> Tensor:
        """What is given (..., n_given), then the outcome (..., n_outcome), the reward last; all standardised."""
        return self.moments.normalise(self._raw(transition, before))

    def _raw(self, transition: Transition, before: Transition | None) -> Tensor:
        obs, action, reward, next_obs, *_ = transition
        obs, next_obs = obs.to(reward.dtype), next_obs.to(reward.dtype)  # of bytes there are no differences
        parts = [obs, self._encoded(action), next_obs]
        if self.second_order:
            last = nothing_like(transition) if before is None else before
            is_known = (last.alive & ~transition.episode_start.unsqueeze(-1)).unsqueeze(-1)
            change = torch.where(is_known, obs - last.obs, 0.0)
            parts[2:] = [change, torch.where(is_known, self._encoded(last.action), 0.0), next_obs - obs]
        raw = torch.cat([*parts, reward.unsqueeze(-1)], dim=-1)
        return torch.where(transition.alive.unsqueeze(-1), raw, 0.0)  # what departed agents drew may be anything

    def _encoded(self, action: Tensor) -> Tensor:
        return F.one_hot(action, self.n_actions).float() if self.n_actions else action

    def _before(self, transition: Transition) -> Transition | None:
        """The transition that stands before each of (T, ...); nothing before the first."""
        if not self.second_order:
            return None
        first = nothing_like(Transition._make(x[:1] for x in transition))
        return Transition._make(torch.cat([none, x[:-1]]) for none, x in zip(first, transition, strict=True))


def nothing_like(transition: Transition) -> Transition:
    return Transition._make(torch.zeros_like(x) for x in transition)


def present(transition: Transition, processes: Processes = ALONE) -> Tensor | None:
    """Who lived through it, (..., N) bool; None where all agents did, in all processes."""
    return transition.alive if processes.any(not transition.alive.all()) else None
