"""MAPPO (Yu et al. 2022): clipped policy gradients with a centralised critic, conditioned on task latents.

Actors pi(a^i | o^i, z^i) see the latent that they acted on. The critic V^i(s, z) re-encodes the global one, so that the
value loss trains the encoder too; the actor loss does not. Its gradient with respect to z is summed over an epoch's
minibatches and taken through the encoder once, since encoding whole trials costs more than the critic itself.

Recurrent actors and critics learn on chunks of consecutive steps. A chunk begins with the state that was acted with
(the critic's: that of a pass over the whole rollout before the update), and forgets where acting forgot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from envs.core import EnvSpec, setting
from mg2l_kalei.learners.actor import Actor
from mg2l_kalei.learners.base import Experience, Learner, Setup
from mg2l_kalei.learners.critic import Critic
from mg2l_kalei.learners.optimiser import DECAYS, Optimiser, back_through
from mg2l_kalei.learners.samples import Memories, Samples, acted, cut, in_chunks
from mg2l_kalei.losses.masking import masked_mean
from mg2l_kalei.losses.policy_gradient import (
    Values,
    clipped_surrogate,
    clipped_value_loss,
    explained_variance,
    generalized_advantages,
    paid_together,
    standardised,
    within_the_trial,
)
from mg2l_kalei.networks import Memory
from mg2l_kalei.types import ActionSample, Clock, Metrics, Rollout, Step

SCALES = ("auto", "team", "agent")
HORIZONS = ("episode", "trial")
CRITIC_INPUTS = ("state", "obs")
# In an update, for the encoder to step at the critic's full rate. What one step of it moves is a large part of the
# returns' deviation, and bootstrapped targets follow: with fewer steps the critic falls behind and values run away.
CRITIC_STEPS = 10


@dataclass(frozen=True)
class MappoConfig:
    actor_lr: float = setting(1e-3, "Adam's learning rate of the actors", above=0)
    critic_lr: float = setting(1e-3, "Adam's learning rate of the critic (and of the encoder by its loss)", above=0)
    lr_decay: str = setting("linear", "to 0 over the run, or none", choices=DECAYS)
    n_epochs: int = setting(5, "passes over each rollout", low=1)
    n_minibatches: int = setting(16, "per pass, of steps (recurrent: chunks) drawn at random from all rows", low=1)
    gamma: float = setting(0.99, "discount per step", low=0, high=1)
    gae_lambda: float = setting(0.95, "of generalised advantages", low=0, high=1)
    n_step: int = setting(
        0, "steps of a rollout after each of which returns bootstrap, as A2C's; 0: at its end", low=0, is_late=True
    )
    horizon: str = setting(
        "episode",
        "where returns end: with the episode, or, as in RL², with the trial, whose end is a time limit",
        choices=HORIZONS,
    )
    clip_eps: float = setting(0.2, "clipping of the ratio and of the value estimate", above=0)
    value_clipping: bool = setting(False, "clip value estimates around the old ones")
    huber_delta: float = setting(10.0, "Huber loss: from squared to absolute [normalised returns]", above=0)
    reward_scale: str = setting(
        "auto",
        "what advantages and returns are standardised over: all agents together, or each agent by itself, so that one "
        "with large or noisy rewards does not drown the others; auto: by itself, unless all are paid the same",
        choices=SCALES,
    )
    entropy_coef: float = setting(0.01, "weight of the entropy bonus", low=0)
    max_grad_norm: float = setting(10.0, "of actors, and of the critic with the encoder", above=0)
    initial_log_std: float = setting(-0.5, "of continuous actions, per dimension")
    encoder_epochs: int = setting(1, "first passes in which the value loss trains the encoder too; 0: never", low=0)
    critic_input: str = setting(
        "state",
        "what values are judged by: the centralised state; obs: each agent's own observation, by networks that are "
        "shared as the actors' are, which makes it IPPO; returns are then on one scale for all agents",
        choices=CRITIC_INPUTS,
        is_late=True,
    )
    critic_per_agent: bool = setting(
        False, "of critic_input=state: one network per agent, not one network with a value per agent"
    )


class Mappo(Learner):
    """See the module's docstring."""

    supports_images = True
    supports_task_gates = True
    config: MappoConfig

    @classmethod
    def problems(cls, config: MappoConfig, spec: EnvSpec) -> Iterable[str]:
        if config.critic_input == "obs" and config.critic_per_agent:
            yield "critic_per_agent=true is of critic_input=state; of critic_input=obs, sharing says who shares"
        if config.critic_input == "obs" and config.reward_scale == "agent":
            yield "reward_scale=agent with critic_input=obs: its returns are on one scale for all agents"

    @classmethod
    def wanted_for_parts(cls, config: MappoConfig) -> str:
        return "horizon=episode" if config.horizon == "trial" else ""

    @classmethod
    def trains_encoder(cls, config: MappoConfig) -> bool:
        return config.encoder_epochs > 0

    def __init__(self, config: MappoConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        encoder, network = setup.encoder, setup.network
        self.per_agent = scale_per_agent(config.reward_scale, setup.spec)
        sharing = setup.make_sharing()
        self.actor_network = Actor(
            self.spec, encoder.local_dim, sharing, network, initial_log_std=config.initial_log_std
        )
        self.critic = Critic(
            self.spec,
            encoder.global_dim,
            network,
            setup.generator,
            per_agent=config.critic_per_agent,
            scale_per_agent=self.per_agent,
            sharing=setup.make_sharing() if config.critic_input == "obs" else None,
        )
        self.networks = {"actor": self.actor_network, "critic": self.critic}
        adam = partial(Optimiser, max_grad_norm=config.max_grad_norm, decay=config.lr_decay, processes=setup.processes)
        others = encoder.critic_parameters() if config.encoder_epochs else ()
        others_lr = config.critic_lr * min(1.0, config.n_epochs * config.n_minibatches / CRITIC_STEPS)
        self.optimisers = {
            "actor": adam("actor", self.actor_network, sharing, lr=config.actor_lr),
            "critic": adam(
                "critic", self.critic, self.critic.sharing, lr=config.critic_lr, others=others, others_lr=others_lr
            ),
        }

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
        if memory is None:
            distribution, _ = self.actor_network(obs, latent, legal)
            states = None
        else:
            one_step = (obs[None], latent[None], None if legal is None else legal[None])
            distribution, states = self.actor_network(*one_step, Memory(memory))
        action = distribution.mode() if explore is None else distribution.sample(generator)
        log_prob = None if explore is None else distribution.log_prob(action)
        if states is None:
            return ActionSample(action, log_prob)
        return ActionSample(action[0], None if log_prob is None else log_prob[0], states[0])

    def update(self, experience: Experience, clock: Clock, generator: torch.Generator) -> Metrics:
        self.anneal(clock)
        rollout, encoder = experience.fresh, experience.encoder
        latent = None if rollout.told is None else rollout.told.global_  # (T + 1, B, global_dim)
        encoder_epochs = self.config.encoder_epochs if encoder.learns and latent is None else 0
        if latent is None:
            with torch.set_grad_enabled(encoder_epochs > 0):
                (latent, _), cost = encoder.learned_latents(rollout, generator)
        seen = self.recall.extend(rollout.steps)
        samples, metrics = self._prepare(rollout, seen, latent.detach())
        steps: list[Metrics] = []
        for epoch in range(self.config.n_epochs):
            trains_encoder = epoch < encoder_epochs
            if trains_encoder and epoch > 0:
                (latent, _), cost = encoder.learned_latents(rollout, generator)
            order = torch.randperm(samples.obs.shape[1], generator=generator, device=latent.device)
            z = (in_chunks(latent[:-1], samples.chunk_length) if trains_encoder else samples.global_latent)[:, order]
            leaf = z.detach().requires_grad_(trains_encoder)
            for minibatch in samples.take(order)._replace(global_latent=leaf).split(self.config.n_minibatches):
                steps.append(self._actor_step(minibatch) | self._critic_step(minibatch))
            if trains_encoder:
                n_losses = min(self.config.n_minibatches, z.shape[1])
                loss, gradient = back_through(z, leaf.grad, n_losses * cost)
                self.optimisers["critic"].step(loss, gradient=gradient)
        self.actor_network.fit_normaliser(seen.obs[acted(seen.alive)], self.processes)
        judged = self._judged(seen)
        judged = judged[acted(seen.alive)] if self.critic.is_local else judged
        self.critic.fit_normaliser(judged, self.processes)
        metrics |= {name: torch.stack([torch.as_tensor(step[name]) for step in steps]).mean() for name in steps[0]}
        metrics["train/first_ratio_error"] = steps[0]["train/ratio_error"]
        return metrics | self.after_update(clock, generator)

    def _judged(self, seen: Step) -> Tensor:
        """What the critic sees: states (T, B, state_dim), or observations (T, B, N, obs_dim)."""
        return seen.obs if self.config.critic_input == "obs" else seen.state

    @torch.no_grad()
    def _prepare(self, rollout: Rollout, seen: Step, latent: Tensor) -> tuple[Samples, Metrics]:
        """Values, advantages and returns of a rollout, by the critic as it is now on global latents (T + 1, B, ...)."""
        assert rollout.log_prob is not None
        config, moments = self.config, self.critic.moments
        with self.frozen():
            value, next_value, critic_state = self._values(seen, latent)
        values = Values(moments.denormalise(value), moments.denormalise(next_value))
        values, lived = paid_together(values, seen) if self.spec.shared_reward else (values, seen)
        ends = (lived.terminated, lived.truncated, lived.next_alive)
        if config.horizon == "trial":
            values, ends = within_the_trial(values, lived, config.gamma)
        reward = torch.where(lived.alive, lived.reward, 0.0)
        advantage = generalized_advantages(
            reward, values, *ends, gamma=config.gamma, gae_lambda=config.gae_lambda, n_step=config.n_step
        )
        returns = advantage + values.value
        is_first = moments.count == 0
        self.critic.fit_returns(returns, seen.alive, self.processes)
        samples = Samples(
            obs=seen.obs,
            legal=seen.legal,
            local_latent=rollout.latent,
            action=seen.action,
            log_prob=rollout.log_prob,
            alive=seen.alive,
            state=self._judged(seen),
            global_latent=latent[:-1],
            advantage=self._standardised(advantage, seen.alive),
            returns=moments.normalise(returns),
            old_value=torch.where(is_first, value, moments.normalise(values.value)),  # the first fit rescales no output
        )
        who = acted(seen.alive)
        metrics: Metrics = {
            "train/explained_variance": explained_variance(values.value[who], returns[who]),
            "train/value": values.value.mean() if isinstance(who, slice) else masked_mean(values.value, who),
        }
        if critic_state is None or rollout.memory is None:
            return cut(samples, None, 1, self.processes), metrics
        memories = Memories(self.recall.forgets(seen.episode_start), rollout.memory, critic_state)
        length = self.network_config.chunk_length or len(seen.obs)
        return cut(samples, memories, min(length, len(seen.obs)), self.processes), metrics

    def _standardised(self, advantage: Tensor, alive: Tensor) -> Tensor:
        """By statistics of all processes' rows: (T, B, N)."""
        whole = standardised(*(self.processes.gather(x, dim=1) for x in (advantage, alive)), per_agent=self.per_agent)
        return whole[:, self.processes.own(advantage.shape[1])]

    def _values(self, seen: Step, latent: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Normalised values (T, B, N) of states and of their true successors, and the critic's states before each."""
        now, after = self._judged(seen), seen.next_obs if self.config.critic_input == "obs" else seen.next_state
        start = self._nothing_remembered(now.shape[1], self.critic.n_networks)
        if start is None:
            value, _ = self.critic(now, latent[:-1])
            next_value, _ = self.critic(after, latent[1:])
            return value, next_value, None
        value, states = self.critic(now, latent[:-1], Memory(start, self.recall.forgets(seen.episode_start)))
        assert states is not None
        cut_off = seen.truncated.clone()  # elsewhere the successor is the state of the next step, or nothing follows
        cut_off[-1] = True
        next_value = value.roll(-1, 0)
        of_last, _ = self.critic(after[cut_off][None], latent[1:][cut_off][None], Memory(states[cut_off]))
        next_value[cut_off] = of_last[0]
        return value, next_value, torch.cat([start[None], states[:-1]])

    def _actor_step(self, batch: Samples) -> Metrics:
        config = self.config
        with self.cast():
            distribution, _ = self.actor_network(batch.obs, batch.local_latent, batch.legal, batch.actor_memory)
        log_prob = distribution.log_prob(batch.action)
        surrogate, metrics = clipped_surrogate(
            log_prob, batch.log_prob, batch.advantage, config.clip_eps, weight=batch.alive
        )
        entropy = masked_mean(distribution.entropy(), batch.alive)
        share, loss = self._share(batch), surrogate - config.entropy_coef * entropy
        stepped = self.optimisers["actor"].step(loss * share, main_loss=surrogate * share)
        metrics |= {"train/surrogate": surrogate, "train/entropy": entropy, **stepped}
        return {name: torch.as_tensor(value).detach() for name, value in metrics.items()}

    def _critic_step(self, batch: Samples) -> Metrics:
        config = self.config
        with self.cast():
            value, _ = self.critic(batch.state, batch.global_latent, batch.critic_memory)
        loss = clipped_value_loss(
            value,
            batch.old_value,
            batch.returns,
            clip_eps=config.clip_eps if config.value_clipping else math.inf,
            delta=config.huber_delta,
            weight=batch.alive,
        )
        return {"train/value_loss": loss.detach(), **self.optimisers["critic"].step(loss * self._share(batch))}

    def _share(self, batch: Samples) -> Tensor | float:
        """See ``Processes.share``: losses are means over the agents that are there."""
        return 1.0 if batch.alive is None else self.processes.share(batch.alive.sum())


def scale_per_agent(reward_scale: str, spec: EnvSpec) -> bool:
    """Whether statistics of rewards are each agent's own (see ``MappoConfig.reward_scale``)."""
    return reward_scale == "agent" or (reward_scale == "auto" and not spec.shared_reward and spec.n_agents > 1)
