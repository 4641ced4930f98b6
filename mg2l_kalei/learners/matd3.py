"""MATD3: deterministic policy gradients of centralised critics (Ackermann et al. 2019), conditioned on task latents.

It is TD3 (Fujimoto et al. 2018, arXiv 1802.09477) of a team: critics Q^k(s, z, a^1 ... a^N), whose targets are the
least of the members' values under smoothed target actions; actors mu(o^i, z^i), which learn every so many updates, each
from the mean of all members' values of its own action beside those that the others took.

Members are two networks, as usual, or one network under masks: the ensemble of Kaleidoscope (Li et al., NeurIPS 2024).
Latents are inferred anew from the trials that are learned from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from envs.core import setting
from mg2l_kalei.buffers.steps import Transitions, n_step_returns, transitions
from mg2l_kalei.learners.base import Experience, Learner, Setup
from mg2l_kalei.learners.deterministic import (
    DeterministicActor,
    EnsembleCritic,
    explored,
    fixed,
    normal_noise,
    refuse_own_weights,
    straight_through,
)
from mg2l_kalei.learners.optimiser import DECAYS, Optimiser
from mg2l_kalei.learners.replayed import TRAINS_ENCODER, ReplayLearner, averaged
from mg2l_kalei.learners.samples import acted
from mg2l_kalei.learners.targets import Targets
from mg2l_kalei.losses.masking import masked_mean
from mg2l_kalei.sharing.base import ParameterSharing
from mg2l_kalei.sharing.ensemble import KaleidoscopeEnsemble
from mg2l_kalei.sharing.independent import IndependentConfig, IndependentSharing
from mg2l_kalei.sharing.kaleidoscope import PUBLISHED
from mg2l_kalei.types import ActionSample, Clock, Metrics, State

ADAM_EPS = 1e-8
ACTOR_STEPS = ("together", "in_turn")
N_CRITICS = {"independent": 2, "kaleidoscope": 5}  # usual sizes of ensembles, by how their members share


@dataclass(frozen=True)
class Matd3Config:
    actor_lr: float = setting(5e-4, "Adam's learning rate of the actors", above=0)
    critic_lr: float = setting(1e-3, "Adam's learning rate of the critics", above=0)
    lr_decay: str = setting("none", "to 0 over the run, or none", choices=DECAYS)
    gamma: float = setting(0.99, "discount per step", low=0, high=1)
    n_step: int = setting(5, "steps whose rewards are summed before the critics are asked", low=1)
    batch: int = setting(256, "transitions per update", low=1)
    updates_per_step: float = setting(0.1, "updates per environment step", above=0)
    encoded_batches: int = setting(
        50, "batches cut out of trials that are drawn, and whose latents are inferred, together", low=1
    )
    policy_delay: int = setting(2, "updates of the critics per update of the actors and of all targets", low=1)
    actor_steps: str = setting(
        "together",
        "of the actors, which may share weights: one on the mean of all agents' losses; or, as published, one for each "
        "agent in turn, each of which moves the actors' target too",
        choices=ACTOR_STEPS,
    )
    tau: float = setting(0.005, "share of the way that targets go to their networks", above=0, high=1)
    exploration_noise: float = setting(
        0.1, "deviation of continuous actions in training; chance of a random one where they are discrete", low=0
    )
    target_noise: float = setting(0.2, "deviation that smooths continuous target actions", low=0)
    target_noise_clip: float = setting(0.5, "greatest size of that noise", low=0)
    warmup_steps: int = setting(10_000, "environment steps before which actions are random", low=0)
    max_grad_norm: float = setting(10.0, "of actors, of critics, and of the encoder", above=0)
    trains_encoder: bool = setting(False, TRAINS_ENCODER, is_late=True)
    n_critics: int = setting(0, "members of the ensemble; 0: 2 independent ones, or 5 of kaleidoscope", low=0)
    critic_sharing: str = setting(
        "independent",
        "of the ensemble's members: networks of their own; or one network, a mask for each",
        choices=tuple(N_CRITICS),
    )
    critic_layer_norm: bool = setting(True, "normalise the critics' hidden layers before their activation")
    critic_diversity_coef: float = setting(0.1, "of critics under masks: see sharing.diversity_coef", low=0)
    critic_threshold_bias: float = setting(0.0, "of critics under masks: see sharing.threshold_bias")
    critic_threshold_scale: float = setting(20.0, "of critics under masks: see sharing.threshold_scale", low=0)
    critic_reset_interval: int = setting(
        800_000, "of critics under masks: environment steps after which the next member's is drawn anew", low=1
    )


class Matd3(ReplayLearner):
    """See the module's docstring."""

    supports_memory = False
    config: Matd3Config

    def __init__(self, config: Matd3Config, setup: Setup) -> None:
        super().__init__(config, setup)
        encoder, network = setup.encoder, setup.network
        self.n_values = 1 if self.spec.shared_reward else self.spec.n_agents
        sharing, members = setup.make_sharing(), critic_sharing(config, setup.generator)
        self.actor_network = DeterministicActor(self.spec, encoder.local_dim, sharing, network)
        if config.actor_steps == "in_turn":
            refuse_own_weights(self.actor_network)
        judging = dataclasses.replace(network, layer_norm=config.critic_layer_norm)
        self.critic = EnsembleCritic(self.spec, encoder.global_dim, members, judging, n_values=self.n_values)
        self.networks = {"actor": self.actor_network, "critic": self.critic}
        self.targets = {name: Targets({name: network}, config.tau) for name, network in self.networks.items()}
        self.n_updates = 0
        optimiser = partial(
            Optimiser,
            max_grad_norm=config.max_grad_norm,
            decay=config.lr_decay,
            eps=ADAM_EPS,
            processes=setup.processes,
        )
        self.optimisers = {
            "actor": optimiser("actor", self.actor_network, sharing, lr=config.actor_lr),
            "critic": optimiser("critic", self.critic, members, lr=config.critic_lr, others=self.of_encoder(encoder)),
        }

    # --- acting -------------------------------------------------------------------------------------------------------

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
        policy = self.actor_network(obs, latent, legal)
        is_random = explore is not None and explore.env_steps < self.config.warmup_steps
        if self.spec.is_discrete:
            if explore is None:
                return ActionSample(policy.argmax(-1))
            chance = 0.0 if not explore.explores else 1.0 if is_random else self.config.exploration_noise
            return ActionSample(explored(policy, legal, chance, generator))
        if explore is None:
            return ActionSample(policy)
        if is_random:
            noise = 2 * torch.rand(policy.shape, generator=generator, device=policy.device) - 1
            policy = torch.zeros_like(policy)
        else:
            noise = self.config.exploration_noise * normal_noise(policy, generator)
        return ActionSample(self.actor_network.disturbed(policy, noise))

    def sampling(self, env_steps: int) -> Clock | None:
        return Clock(0, env_steps, env_steps, explores=False) if self.spec.is_discrete else None

    # --- learning -----------------------------------------------------------------------------------------------------

    def update(self, experience: Experience, clock: Clock, generator: torch.Generator) -> Metrics:
        self.anneal(clock)
        seen = self.recall.extend(experience.fresh.steps)
        self.actor_network.fit_normaliser(seen.obs[acted(seen.alive)], self.processes)
        self.critic.fit_normaliser(seen.state, self.processes)
        for targets in self.targets.values():
            targets.take_buffers()
        n_steps = seen.ends.numel() * self.processes.size
        n_updates = self.due(self.config.updates_per_step * n_steps)
        batches = self._batches(experience, n_updates, generator)
        metrics = averaged([self.learn_from(batch, generator) for batch in batches])
        return metrics | self.after_update(clock, generator)

    def _batches(self, experience: Experience, n: int, generator: torch.Generator) -> Iterator[Transitions]:
        """So many batches: all steps of trials drawn at random, in random order, and then of others."""
        config, replay = self.config, experience.replay
        assert replay is not None
        size = -(-config.batch // self.processes.size)  # of each process
        n_trials = min(len(replay), -(-min(config.encoded_batches, n) * size // replay.n_steps))
        size = min(size, n_trials * replay.n_steps)
        while n > 0:
            trials = self.relive(experience, n_trials, generator)
            steps = self.recall.extend(trials.steps)
            reward = self._valued(torch.where(steps.alive, steps.reward, 0.0), steps.alive)
            returns = n_step_returns(reward, steps, self._lives(steps.next_alive), n=config.n_step, gamma=config.gamma)
            order = torch.randperm(steps.ends.numel(), generator=generator, device=reward.device)
            batches = order[: len(order) // size * size].split(size)[:n]
            for index in batches:
                yield transitions(steps, trials.latent, returns, index)
            trials.teach(self.optimisers["critic"], len(batches))
            n -= len(batches)

    def _valued(self, reward: Tensor, alive: Tensor) -> Tensor:
        """Rewards (..., N), 0 of those not alive, as critics value them: (..., V)."""
        if self.n_values > 1 or self.spec.n_agents == 1:
            return reward
        return reward.sum(-1, keepdim=True) / alive.sum(-1, keepdim=True).clamp(min=1)  # all are paid the same

    def _lives(self, alive: Tensor) -> Tensor:
        """Whose values, (..., V), are there, of alive (..., N): of all together while somebody is."""
        return alive if self.n_values == self.spec.n_agents else alive.any(-1, keepdim=True)

    def learn_from(self, batch: Transitions, generator: torch.Generator) -> Metrics:
        """One update: a step of the critics, and, when it is their turn, steps of the actors and of targets."""
        metrics = self.learned(batch, self._critic_step(batch, generator))
        self.n_updates += 1
        if self.n_updates % self.config.policy_delay:
            return metrics
        agents = range(self.spec.n_agents)
        turns = [slice(i, i + 1) for i in agents] if self.config.actor_steps == "in_turn" else [slice(len(agents))]
        metrics |= self.learned(batch, averaged([self._actor_step(batch, turn, generator) for turn in turns]))
        for _ in turns:  # as published: so many times the way, where agents take turns
            self.targets["actor"].follow()
        self.targets["critic"].follow()
        return metrics

    def _critic_step(self, batch: Transitions, generator: torch.Generator) -> Metrics:
        alive = self._lives(batch.alive)
        with self.cast():
            with torch.no_grad():
                target = self.target_values(batch, generator)
            q = self.values_of(batch, self._stored(batch))  # (S, K, V)
        share = self.processes.share(alive.sum())
        loss = masked_mean((q - target.unsqueeze(-2)).square().sum(-2), alive) * share
        metrics = self.optimisers["critic"].step(loss, main_loss=loss)
        return {"train/td_loss": loss.detach(), "train/q": masked_mean(q.detach().mean(-2), alive), **metrics}

    def target_values(self, batch: Transitions, generator: torch.Generator) -> Tensor:
        """Of n steps, and after them the least of the members' values under smoothed target actions: (S, V)."""
        actor, critic, config = self.targets["actor"]["actor"], self.targets["critic"]["critic"], self.config
        action = actor(batch.next_obs, batch.next_latent.local, batch.next_legal)
        if self.spec.is_discrete:
            action = straight_through(action, generator)
        else:
            noise = config.target_noise * normal_noise(action, generator)
            clip = config.target_noise_clip
            action = self.actor_network.disturbed(action, noise.clamp(-clip, clip))
        action = torch.where(batch.next_alive.unsqueeze(-1), action, 0.0)
        q = critic(batch.next_state, batch.next_latent.global_, action).min(-2).values
        return batch.value + batch.discount * q

    def values_of(self, batch: Transitions, action: Tensor) -> Tensor:
        """All members' values of the batch's first states under action (S, N, action_dim): (S, K, V)."""
        q: Tensor = self.critic(batch.state, batch.latent.global_, action)
        return q

    def _stored(self, batch: Transitions) -> Tensor:
        """The actions that were taken, as critics see them: (S, N, action_dim)."""
        action = batch.action
        if self.spec.is_discrete:
            action = F.one_hot(action, self.spec.action_dim).to(batch.state.dtype)
        return torch.where(batch.alive.unsqueeze(-1), action, 0.0)

    def _actor_step(self, batch: Transitions, agents: slice, generator: torch.Generator) -> Metrics:
        """A step on the mean, over some agents, of the members' mean value of an agent's own action."""
        with self.cast(), fixed(self.critic):
            policy = self.actor_network(batch.obs, batch.latent.local, batch.legal)
            if self.spec.is_discrete:
                policy = straight_through(policy, generator)
            own = torch.eye(self.spec.n_agents, dtype=torch.bool, device=policy.device)[agents].unsqueeze(-1)
            joint = torch.where(own, policy.unsqueeze(-3), self._stored(batch).unsqueeze(-3))  # (S, agents, N, A)
            of_team = (x.unsqueeze(-2).expand(-1, len(own), -1) for x in (batch.state, batch.latent.global_.detach()))
            q = self.critic(*of_team, joint).mean(-2)  # (S, agents, V)
        q = q[..., 0] if self.n_values == 1 else q[..., agents].diagonal(dim1=-2, dim2=-1)  # each one's own
        alive = batch.alive[:, agents]
        loss = -masked_mean(q, alive) * self.processes.share(alive.sum())
        return {"train/policy_q": -loss.detach(), **self.optimisers["actor"].step(loss, main_loss=loss)}

    # --- what is kept -------------------------------------------------------------------------------------------------

    def to(self, device: torch.device) -> Learner:
        for targets in self.targets.values():
            targets.to(device)
        return super().to(device)

    def load_weights(self, state: State) -> None:
        super().load_weights(state)
        for targets in self.targets.values():
            targets.catch_up()

    def state_dict(self) -> State:
        targets = {name: targets.state_dict() for name, targets in self.targets.items()}
        return {**super().state_dict(), "targets": targets, "n_updates": self.n_updates}

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        self.n_updates = state["n_updates"]
        for name, targets in self.targets.items():
            targets.load_state_dict(state["targets"][name])


def critic_sharing(config: Matd3Config, generator: torch.Generator) -> ParameterSharing:
    """The scheme of the ensemble's members."""
    members = range(config.n_critics or N_CRITICS[config.critic_sharing])
    if config.critic_sharing == "independent":
        return IndependentSharing(IndependentConfig(), members, generator)
    masks = dataclasses.replace(
        PUBLISHED,
        diversity_coef=config.critic_diversity_coef,
        threshold_bias=config.critic_threshold_bias,
        threshold_scale=config.critic_threshold_scale,
        reset_interval=config.critic_reset_interval,
    )
    return KaleidoscopeEnsemble(masks, members, generator)
