"""MAPPO (Yu et al. 2022): clipped policy gradients with a centralised critic, conditioned on task latents.

Actors pi(a^i | o^i, z^i) see the latent that they acted on. The critic V^i(s, z) re-encodes the global one, so that the
value loss trains the encoder too; the actor loss does not. Its gradient with respect to z is summed over an epoch's
minibatches and taken through the encoder once, since encoding whole trials costs more than the critic itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor, nn

from envs.core import EnvSpec, setting
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.learners.actor import Actor
from mg2l_kalei.learners.base import Learner
from mg2l_kalei.learners.critic import Critic
from mg2l_kalei.losses.policy_gradient import (
    Values,
    clipped_surrogate,
    clipped_value_loss,
    explained_variance,
    generalized_advantages,
    masked_mean,
    standardised,
)
from mg2l_kalei.networks.mlp import MlpConfig
from mg2l_kalei.sharing.base import ParameterSharing
from mg2l_kalei.types import ActionSample, Metrics, Rollout, State


@dataclass(frozen=True)
class MappoConfig:
    actor_lr: float = setting(1e-3, "Adam's learning rate of the actors", above=0)
    critic_lr: float = setting(1e-3, "Adam's learning rate of the critic (and of the encoder by its loss)", above=0)
    lr_decay: str = setting("linear", "to 0 over the run, or none", choices=("linear", "none"))
    n_epochs: int = setting(5, "passes over each rollout", low=1)
    n_minibatches: int = setting(16, "per pass, of steps drawn at random from all rows", low=1)
    gamma: float = setting(0.99, "discount per step", low=0, high=1)
    gae_lambda: float = setting(0.95, "of generalised advantages", low=0, high=1)
    clip_eps: float = setting(0.2, "clipping of the ratio and of the value estimate", above=0)
    value_clipping: bool = setting(False, "clip value estimates around the old ones")
    huber_delta: float = setting(10.0, "Huber loss: from squared to absolute [normalised returns]", above=0)
    entropy_coef: float = setting(0.01, "weight of the entropy bonus", low=0)
    max_grad_norm: float = setting(10.0, "of actors, and of the critic with the encoder", above=0)
    initial_log_std: float = setting(-0.5, "of continuous actions, per dimension")
    encoder_epochs: int = setting(1, "first passes in which the value loss trains the encoder too; 0: never", low=0)
    critic_per_agent: bool = setting(False, "one critic network per agent, not one network with a value per agent")
    hidden: tuple[int, ...] = setting((128, 128), "widths of the hidden layers of actors and critic", low=1)
    activation: str = setting("relu", "of the hidden layers", choices=("relu", "gelu", "tanh"))
    layer_norm: bool = setting(False, "normalise hidden layers")
    agent_id: bool = setting(True, "put the agent's one-hot number into the actor's input")

    @property
    def mlp(self) -> MlpConfig:
        return MlpConfig(self.hidden, self.activation, self.layer_norm, self.agent_id)


class Samples(NamedTuple):
    """What the losses look at, over S = T B steps of a rollout, or a minibatch of them."""

    obs: Tensor  # (S, N, obs_dim)
    legal: Tensor | None  # (S, N, n_actions)
    local_latent: Tensor  # (S, N, local_dim)   that was acted on
    action: Tensor  # (S, N, action_dim) or (S, N)
    log_prob: Tensor  # (S, N)   when acting
    alive: Tensor | None  # (S, N)   None: all are
    state: Tensor  # (S, state_dim)
    global_latent: Tensor  # (S, global_dim)   the critic's
    advantage: Tensor  # (S, N)   normalised
    returns: Tensor  # (S, N)   normalised as the critic's outputs
    old_value: Tensor  # (S, N)   likewise

    def take(self, index: Tensor) -> Samples:
        """The samples at index (s,)."""
        return Samples._make(None if x is None else x[index] for x in self)

    def chunk(self, n: int) -> Iterator[Samples]:
        """The samples in n parts as equal as can be, in their order."""
        return map(Samples, *(repeat(None) if x is None else x.chunk(n) for x in self))


class Mappo(Learner):
    """See the module's docstring."""

    actor: Actor

    def __init__(
        self,
        config: MappoConfig,
        spec: EnvSpec,
        encoder: TaskEncoder,
        make_sharing: Callable[[int], ParameterSharing],
        generator: torch.Generator,
    ) -> None:
        self.config = config
        self.sharing = make_sharing(spec.n_agents)
        self.actor = Actor(spec, encoder.local_dim, self.sharing, config.mlp, config.initial_log_std)
        self.critic = Critic(spec, encoder.global_dim, config.mlp, generator, per_agent=config.critic_per_agent)
        self.total_env_steps = self.sharing.total_env_steps
        adam = partial(torch.optim.Adam, eps=1e-5, fused=True)
        self.actor_optimiser = adam(self.sharing.parameter_groups(self.actor), lr=config.actor_lr)
        self.critic_optimiser = adam(self.critic.parameters(), lr=config.critic_lr)
        encoder_parameters = encoder.critic_parameters() if config.encoder_epochs else []
        if encoder_parameters:
            self.critic_optimiser.add_param_group({"params": encoder_parameters})

    def networks(self) -> dict[str, nn.Module]:
        return {"actor": self.actor, "critic": self.critic}

    def to(self, device: torch.device) -> Mappo:
        for network in self.networks().values():
            network.to(device)
        return self

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
        distribution = self.actor(obs, local_latent, legal)
        action = distribution.sample(generator) if explore else distribution.mode()
        return ActionSample(action, distribution.log_prob(action), recurrent_state)

    def update(self, rollout: Rollout, encoder: TaskEncoder, env_steps: int, generator: torch.Generator) -> Metrics:
        self._decay_learning_rates(env_steps)
        encoder_epochs = self.config.encoder_epochs if encoder.learns else 0
        with torch.set_grad_enabled(encoder_epochs > 0):
            latent = encoder.latents(rollout).global_  # (T + 1, B, global_dim)
        samples, metrics = self._prepare(rollout, latent.detach())
        steps: list[dict[str, Tensor]] = []
        for epoch in range(self.config.n_epochs):
            trains_encoder = epoch < encoder_epochs
            if trains_encoder and epoch > 0:
                latent = encoder.latents(rollout).global_
            order = torch.randperm(len(samples.obs), generator=generator, device=latent.device)
            z = (latent[:-1].flatten(0, 1) if trains_encoder else samples.global_latent)[order]
            leaf = z.detach().requires_grad_(trains_encoder)
            for minibatch in samples.take(order)._replace(global_latent=leaf).chunk(self.config.n_minibatches):
                steps.append(self._actor_step(minibatch) | self._critic_step(minibatch))
            if trains_encoder:
                self._step(self.critic_optimiser, z, gradient=leaf.grad)
        self.actor.fit_normaliser(rollout.obs[_acted(rollout)])
        self.critic.fit_normaliser(rollout.state)
        metrics |= {name: torch.stack([step[name] for step in steps]).mean() for name in steps[0]}
        metrics["train/first_ratio_error"] = steps[0]["train/ratio_error"]
        metrics |= self.sharing.on_env_steps(self.actor, self.actor_optimiser, env_steps, generator)
        return metrics | self.sharing.metrics(self.actor)

    @torch.no_grad()
    def _prepare(self, rollout: Rollout, latent: Tensor) -> tuple[Samples, Metrics]:
        """Values, advantages and returns of a rollout, by the critic as it is now on global latents (T + 1, B, ...)."""
        assert rollout.acting is not None
        config, moments = self.config, self.critic.moments
        value, next_value = self.critic(rollout.state, latent[:-1]), self.critic(rollout.next_state, latent[1:])
        values = Values(moments.denormalise(value), moments.denormalise(next_value))
        ends = (rollout.terminated, rollout.truncated, rollout.next_alive)
        advantage = generalized_advantages(
            rollout.reward, values, *ends, gamma=config.gamma, gae_lambda=config.gae_lambda
        )
        returns = advantage + values.value
        is_first = moments.count == 0
        acted = _acted(rollout)
        self.critic.fit_returns(returns[acted])
        samples = Samples(
            obs=rollout.obs,
            legal=rollout.legal,
            local_latent=rollout.latent,
            action=rollout.action,
            log_prob=rollout.acting.log_prob,
            alive=None if isinstance(acted, slice) else acted,
            state=rollout.state,
            global_latent=latent[:-1],
            advantage=standardised(advantage, rollout.alive),
            returns=moments.normalise(returns),
            old_value=value if is_first else moments.normalise(values.value),  # the first fit rescales no output
        )
        metrics: Metrics = {
            "train/explained_variance": explained_variance(values.value[acted], returns[acted]),
            "train/value": values.value[acted].mean(),
        }
        return Samples._make(None if x is None else x.flatten(0, 1) for x in samples), metrics

    def _actor_step(self, batch: Samples) -> dict[str, Tensor]:
        config = self.config
        distribution = self.actor(batch.obs, batch.local_latent, batch.legal)
        log_prob = distribution.log_prob(batch.action)
        surrogate, metrics = clipped_surrogate(
            log_prob, batch.log_prob, batch.advantage, config.clip_eps, weight=batch.alive
        )
        entropy = masked_mean(distribution.entropy(), batch.alive)
        sharing_loss, sharing_metrics = self.sharing.loss(self.actor, surrogate)
        norm = self._step(self.actor_optimiser, surrogate - config.entropy_coef * entropy + sharing_loss)
        metrics |= {"train/surrogate": surrogate, "train/entropy": entropy, "train/actor_grad_norm": norm}
        return {name: torch.as_tensor(value).detach() for name, value in (metrics | sharing_metrics).items()}

    def _critic_step(self, batch: Samples) -> dict[str, Tensor]:
        config = self.config
        loss = clipped_value_loss(
            self.critic(batch.state, batch.global_latent),
            batch.old_value,
            batch.returns,
            clip_eps=config.clip_eps if config.value_clipping else math.inf,
            delta=config.huber_delta,
            weight=batch.alive,
        )
        norm = self._step(self.critic_optimiser, loss)
        return {"train/value_loss": loss.detach(), "train/critic_grad_norm": norm}

    def _step(self, optimiser: torch.optim.Optimizer, loss: Tensor, gradient: Tensor | None = None) -> Tensor:
        """One step on what ``loss`` depends on (others' gradients are None); the gradient's norm before clipping."""
        optimiser.zero_grad(set_to_none=True)
        loss.backward(gradient)
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm)
        optimiser.step()
        return norm.detach()

    def _decay_learning_rates(self, env_steps: int) -> None:
        left = 1.0
        if self.config.lr_decay == "linear" and math.isfinite(self.total_env_steps):
            left = max(0.0, 1 - env_steps / (1.02 * self.total_env_steps))  # a last update of rate 0 would be wasted
        for optimiser, lr in (
            (self.actor_optimiser, self.config.actor_lr),
            (self.critic_optimiser, self.config.critic_lr),
        ):
            for group in optimiser.param_groups:
                group["lr"] = lr * left

    def state_dict(self) -> State:
        return {
            "actor": self.actor.state_dict(),
            "critic": self.critic.state_dict(),
            "actor_optimiser": self.actor_optimiser.state_dict(),
            "critic_optimiser": self.critic_optimiser.state_dict(),
            "sharing": self.sharing.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        self.actor.load_state_dict(state["actor"])
        self.critic.load_state_dict(state["critic"])
        self.actor_optimiser.load_state_dict(state["actor_optimiser"])
        self.critic_optimiser.load_state_dict(state["critic_optimiser"])
        self.sharing.load_state_dict(state["sharing"])


def _acted(rollout: Rollout) -> Tensor | slice:
    """Index of the steps and agents that acted: (T, B, N) bool, or all of them where nobody had left."""
    return slice(None) if rollout.alive.all() else rollout.alive
