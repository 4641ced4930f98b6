"""MAPPO (Yu et al. 2022): clipped policy gradients with a centralised critic, conditioned on task latents.

Actors pi(a^i | o^i, z^i) see the latent that they acted on. The critic V^i(s, z) re-encodes the global one, so that the
value loss trains the encoder too; the actor loss does not. Its gradient with respect to z is summed over an epoch's
minibatches and taken through the encoder once, since encoding whole trials costs more than the critic itself.

Recurrent actors and critics learn on chunks of consecutive steps. A chunk begins with the state that was acted with
(the critic's: that of a pass over the whole rollout before the update), and forgets where an episode starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from envs.core import EnvSpec, setting
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.learners.actor import Actor
from mg2l_kalei.learners.base import Learner
from mg2l_kalei.learners.critic import Critic
from mg2l_kalei.learners.samples import Samples, acted, cut, in_chunks
from mg2l_kalei.losses.policy_gradient import (
    Values,
    clipped_surrogate,
    clipped_value_loss,
    explained_variance,
    generalized_advantages,
    masked_mean,
    standardised,
)
from mg2l_kalei.networks import Memory, MlpConfig
from mg2l_kalei.sharing.base import ParameterSharing
from mg2l_kalei.types import ActionSample, Metrics, Rollout, State


@dataclass(frozen=True)
class MappoConfig:
    actor_lr: float = setting(1e-3, "Adam's learning rate of the actors", above=0)
    critic_lr: float = setting(1e-3, "Adam's learning rate of the critic (and of the encoder by its loss)", above=0)
    lr_decay: str = setting("linear", "to 0 over the run, or none", choices=("linear", "none"))
    n_epochs: int = setting(5, "passes over each rollout", low=1)
    n_minibatches: int = setting(16, "per pass, of steps (recurrent: chunks) drawn at random from all rows", low=1)
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
    recurrent: bool = setting(False, "a GRU after the first hidden layer of actors and critic, as wide as it")
    chunk_length: int = setting(10, "steps that a recurrent network's gradients go back through time", low=1)

    def __post_init__(self) -> None:
        if self.recurrent and not self.hidden:
            raise ValueError("recurrent=true with hidden=[]: there is no layer for a GRU to stand after")

    @property
    def mlp(self) -> MlpConfig:
        return MlpConfig(self.hidden, self.activation, self.layer_norm, self.agent_id)


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
        self.spec, recurrent = spec, config.recurrent
        self.actor = Actor(
            spec,
            encoder.local_dim,
            self.sharing,
            config.mlp,
            initial_log_std=config.initial_log_std,
            recurrent=recurrent,
        )
        self.critic = Critic(
            spec, encoder.global_dim, config.mlp, generator, per_agent=config.critic_per_agent, recurrent=recurrent
        )
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

    def initial_recurrent_state(self, n_rows: int) -> Tensor | None:
        return self._nothing_remembered(n_rows, self.spec.n_agents)

    def _nothing_remembered(self, n_rows: int, n_networks: int) -> Tensor | None:
        """(B, n_networks, hidden) of zeros; None for feed-forward networks."""
        if not self.config.recurrent:
            return None
        return torch.zeros(n_rows, n_networks, self.config.hidden[0], device=self.critic.moments.mean.device)

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
        if recurrent_state is None:
            distribution, _ = self.actor(obs, local_latent, legal)
            action = distribution.sample(generator) if explore else distribution.mode()
            return ActionSample(action, distribution.log_prob(action), None)
        one_step = (obs[None], local_latent[None], None if legal is None else legal[None])
        distribution, states = self.actor(*one_step, Memory(recurrent_state))
        action = distribution.sample(generator) if explore else distribution.mode()
        return ActionSample(action[0], distribution.log_prob(action)[0], states[0] if states is not None else None)

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
            order = torch.randperm(samples.obs.shape[1], generator=generator, device=latent.device)
            z = (in_chunks(latent[:-1], samples.chunk_length) if trains_encoder else samples.global_latent)[:, order]
            leaf = z.detach().requires_grad_(trains_encoder)
            for minibatch in samples.take(order)._replace(global_latent=leaf).split(self.config.n_minibatches):
                steps.append(self._actor_step(minibatch) | self._critic_step(minibatch))
            if trains_encoder:
                self._step(self.critic_optimiser, z, gradient=leaf.grad)
        self.actor.fit_normaliser(rollout.obs[acted(rollout)])
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
        value, next_value, critic_state = self._values(rollout, latent)
        values = Values(moments.denormalise(value), moments.denormalise(next_value))
        ends = (rollout.terminated, rollout.truncated, rollout.next_alive)
        advantage = generalized_advantages(
            rollout.reward, values, *ends, gamma=config.gamma, gae_lambda=config.gae_lambda
        )
        returns = advantage + values.value
        is_first = moments.count == 0
        who = acted(rollout)
        self.critic.fit_returns(returns[who])
        samples = Samples(
            obs=rollout.obs,
            legal=rollout.legal,
            local_latent=rollout.latent,
            action=rollout.action,
            log_prob=rollout.acting.log_prob,
            alive=None,
            state=rollout.state,
            global_latent=latent[:-1],
            advantage=standardised(advantage, rollout.alive),
            returns=moments.normalise(returns),
            old_value=value if is_first else moments.normalise(values.value),  # the first fit rescales no output
        )
        metrics: Metrics = {
            "train/explained_variance": explained_variance(values.value[who], returns[who]),
            "train/value": values.value[who].mean(),
        }
        length = min(config.chunk_length, len(rollout.obs)) if config.recurrent else 1
        return cut(samples, rollout, critic_state, length), metrics

    def _values(self, rollout: Rollout, latent: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Normalised values (T, B, N) of states and of their true successors, and the critic's states before each."""
        start = self._nothing_remembered(len(rollout.task), self.critic.n_networks)
        if start is None:
            value, _ = self.critic(rollout.state, latent[:-1])
            next_value, _ = self.critic(rollout.next_state, latent[1:])
            return value, next_value, None
        value, states = self.critic(rollout.state, latent[:-1], Memory(start, rollout.episode_start))
        assert states is not None
        cut_off = rollout.truncated.clone()  # elsewhere the successor is the state of the next step, or nothing follows
        cut_off[-1] = True
        next_value = value.roll(-1, 0)
        of_last, _ = self.critic(rollout.next_state[cut_off][None], latent[1:][cut_off][None], Memory(states[cut_off]))
        next_value[cut_off] = of_last[0]
        return value, next_value, torch.cat([start[None], states[:-1]])

    def _actor_step(self, batch: Samples) -> dict[str, Tensor]:
        config = self.config
        distribution, _ = self.actor(batch.obs, batch.local_latent, batch.legal, batch.actor_memory)
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
        value, _ = self.critic(batch.state, batch.global_latent, batch.critic_memory)
        loss = clipped_value_loss(
            value,
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
