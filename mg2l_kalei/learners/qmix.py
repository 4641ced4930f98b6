"""QMIX (Rashid et al. 2018, arXiv 1803.11485): decentralised action values under a monotonic mixer, off-policy.

Each agent's values Q^i(o^i, z^i, .) see its own observation and task latent; the mixer sees the state and the global
latent. Latents of replayed trials are inferred anew, by the encoder as it is now.
Values are learned on whole trials, along which recurrent agents remember and forget as they did when acting.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from envs.core import EnvSpec, setting
from mg2l_kalei.learners.base import Experience, Learner, Setup
from mg2l_kalei.learners.optimiser import DECAYS, Optimiser
from mg2l_kalei.learners.replayed import TRAINS_ENCODER, ReplayLearner, Trials, averaged, episodes_in, of_team
from mg2l_kalei.learners.samples import acted
from mg2l_kalei.learners.targets import Targets
from mg2l_kalei.losses.temporal_difference import lambda_targets
from mg2l_kalei.networks import Memory, NetworkConfig, RunningMoments, team_network
from mg2l_kalei.networks.mixers import MIXERS, Mixer
from mg2l_kalei.sharing.base import ParameterSharing
from mg2l_kalei.types import ActionSample, Clock, Metrics, State, Step, TaskLatent

TIME_LIMITS = ("bootstrap", "terminal")


@dataclass(frozen=True)
class QmixConfig:
    mixer: str = setting("qmix", "of agents' values into the team's: monotonic, or (vdn) their sum", choices=MIXERS)
    mixer_width: int = setting(32, "of the mixer's hidden layer", low=1)
    hypernet_width: int = setting(64, "of the hidden layer of the hypernetworks that put its weights out", low=1)
    lr: float = setting(5e-4, "Adam's learning rate", above=0)
    lr_decay: str = setting("none", "linear, to 0 over the run, or none", choices=DECAYS)
    batch: int = setting(32, "trials of an update; learning begins when the replay holds as many", low=1)
    updates_per_episode: float = setting(1.0, "updates for each episode that is played", above=0)
    gamma: float = setting(0.99, "discount per step", low=0, high=1)
    td_lambda: float = setting(0.0, "of TD(lambda): 0: targets look one step ahead", low=0, high=1)
    target_update: float = setting(
        200.0,
        "updates between copies of all weights into the target networks; below 1: the share of the way that these go "
        "at each update",
        above=0,
    )
    epsilon_start: float = setting(1.0, "chance of a random action at first", low=0, high=1)
    epsilon_end: float = setting(0.05, "chance of a random action in the end", low=0, high=1)
    epsilon_steps: int = setting(50_000, "environment steps in which the one falls to the other, linearly", low=1)
    standardise_rewards: bool = setting(True, "learn from rewards less their mean, over their deviation, as sampled")
    time_limits: str = setting(
        "bootstrap",
        "what follows where an episode's time runs out: bootstrap: the value of where it stopped; terminal: nothing, "
        "as in published code",
        choices=TIME_LIMITS,
    )
    max_grad_norm: float = setting(10.0, "of agents and mixer together; of the encoder by itself", above=0)
    trains_encoder: bool = setting(False, TRAINS_ENCODER, is_late=True)

    def epsilon(self, clock: Clock) -> float:
        """Chance of a random action: the clock stands still in a rollout, so it is the same for whole episodes."""
        left = max(0.0, 1 - clock.env_steps / self.epsilon_steps)
        return self.epsilon_end + (self.epsilon_start - self.epsilon_end) * left


class Agents(nn.Module):
    """obs (..., N, obs_dim), latent (..., N, local_dim) -> each agent's value of each of its actions (..., N, A).

    In two parts, so that target networks, copies of ``body``, see what it sees: standardised by the same moments.
    """

    def __init__(self, spec: EnvSpec, latent_dim: int, sharing: ParameterSharing, config: NetworkConfig) -> None:
        super().__init__()
        self.moments = RunningMoments(spec.obs_dim, clip=10.0, kept=sharing.type_columns)
        self.body = team_network(sharing, spec.obs_dim + latent_dim, spec.action_dim, config, place_id=config.agent_id)

    def seen(self, obs: Tensor, latent: Tensor) -> Tensor:
        """What ``body`` sees."""
        return torch.cat([self.moments.normalise(obs), latent], dim=-1)


class TeamValue(nn.Module):
    """A mixer, and what it sees of state (..., state_dim) and latent (..., global_dim); in two parts, as ``Agents``."""

    def __init__(self, spec: EnvSpec, latent_dim: int, config: QmixConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.moments = RunningMoments(spec.state_dim, clip=10.0)
        widths = {"width": config.mixer_width, "hypernet_width": config.hypernet_width}
        in_features = spec.state_dim + latent_dim
        self.body: Mixer = MIXERS[config.mixer](spec.n_agents, in_features, **widths, generator=generator)

    def seen(self, state: Tensor, latent: Tensor) -> Tensor:
        """What ``body`` sees."""
        return torch.cat([self.moments.normalise(state), latent], dim=-1)


class Views(NamedTuple):
    """What agents' networks see along B trials of T steps, and after the S steps that the next one does not follow."""

    x: Tensor  # (T, B, N, in)
    forgotten: Tensor  # (T, B) bool   steps before which everything is forgotten
    after: Tensor  # (S, N, in)
    cut: tuple[Tensor, ...]  # (S,) int64 each   number and row of those S steps


Along = tuple[Tensor, Tensor | None]  # values (T, B, N, A), and states after each step (T, B, N, hidden)


class Qmix(ReplayLearner):
    """See the module's docstring. Rewards are the team's."""

    needs_team = True
    config: QmixConfig

    @classmethod
    def problems(cls, config: QmixConfig, spec: EnvSpec) -> Iterable[str]:
        if not spec.is_discrete:
            yield "it learns a value of each action, and actions are continuous here: expected learner=mappo or matd3"
        if config.epsilon_end > config.epsilon_start:
            yield f"epsilon_end={config.epsilon_end:g} is more than epsilon_start={config.epsilon_start:g}"
        if config.trains_encoder and not MIXERS[config.mixer].is_conditioned:
            yield f"trains_encoder=true: mixer={config.mixer} sees no latent; expected mixer=qmix"
        if config.trains_encoder and config.time_limits == "bootstrap":
            yield "trains_encoder=true: values that follow latents run away; expected time_limits=terminal"

    @classmethod
    def wanted_for_parts(cls, config: QmixConfig) -> str:
        return "time_limits=bootstrap" if config.time_limits == "terminal" else ""

    def __init__(self, config: QmixConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        sharing = setup.make_sharing()
        self.agents = Agents(self.spec, setup.encoder.local_dim, sharing, setup.network)
        self.team = TeamValue(self.spec, setup.encoder.global_dim, config, setup.generator)
        self.rewards = RunningMoments(1)
        self.networks = {"actor": self.agents, "mixer": self.team}
        self.targets = Targets({"agents": self.agents.body, "mixer": self.team.body}, config.target_update)
        optimiser = Optimiser(
            "actor",
            self.agents,
            sharing,
            lr=config.lr,
            max_grad_norm=config.max_grad_norm,
            decay=config.lr_decay,
            eps=1e-8,
            others=[*self.team.parameters(), *self.of_encoder(setup.encoder)],  # one loss; the encoder by itself
            processes=setup.processes,
        )
        self.optimisers = {"actor": optimiser}

    # --- acting ------------------------------------------------------------------------------------------------------

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
        x, states = self.agents.seen(obs, latent), None
        if memory is None:
            q = self.agents.body(x)
        else:
            q, states = self.agents.body(x[None], Memory(memory))
            q, states = q[0], states[0]
        action = of_legal(q, legal).argmax(-1)
        if explore is not None:
            race = torch.rand(q.shape, generator=generator, device=q.device)
            is_random = torch.rand(action.shape, generator=generator, device=q.device) < self.config.epsilon(explore)
            action = torch.where(is_random, of_legal(race, legal).argmax(-1), action)
        return ActionSample(action, memory=states)

    # --- learning ----------------------------------------------------------------------------------------------------

    def update(self, experience: Experience, clock: Clock, generator: torch.Generator) -> Metrics:
        config, replay, processes = self.config, experience.replay, self.processes
        assert replay is not None
        self.anneal(clock)
        fresh = self.recall.extend(experience.fresh.steps)
        self.agents.moments.update(fresh.obs[acted(fresh.alive)], processes=processes)
        self.team.moments.update(fresh.state, processes=processes)
        self.targets.take_buffers()
        n_trials = min(-(-config.batch // processes.size), replay.capacity)
        n_episodes = episodes_in(experience.fresh, self.spec.episode_steps, processes)
        n_updates = self.due(config.updates_per_episode * n_episodes)
        steps = []
        for _ in range(n_updates if len(replay) >= n_trials else 0):  # what was due before is not made up for
            steps.append(self.learn(self.relive(experience, n_trials, generator)))
        return averaged(steps) | {"train/epsilon": config.epsilon(clock)} | self.after_update(clock, generator)

    def learn(self, trials: Trials) -> Metrics:
        """One update on replayed trials."""
        seen, latent = self.recall.extend(trials.steps), trials.latent
        views = self.views(seen, latent)
        with self.cast():
            q, states = self.unrolled(self.agents.body, views)
            chosen = q.gather(-1, seen.action.unsqueeze(-1)).squeeze(-1)  # (T, B, N)
            condition = self.team.seen(seen.state, latent.global_[:-1])
            value = self.team.body(torch.where(seen.alive, chosen, 0.0), condition).to(views.x.dtype)  # (T, B)
        if self.config.standardise_rewards:
            self.rewards.update(of_team(seen, self.spec).unsqueeze(-1), processes=self.processes)
        error = value - self.target(seen, latent, views, (q.detach(), states))
        counts = seen.alive.any(-1)
        n = counts.sum()
        loss = torch.where(counts, error, 0.0).square().sum() / n.clamp(min=1) * self.processes.share(n)
        stepped = self.optimisers["actor"].step(loss, main_loss=loss)
        trials.teach(self.optimisers["actor"], 1)
        self.targets.follow()
        found: Metrics = {"train/td_loss": loss.detach(), "train/team_value": value.detach().mean()}
        return self.learned(Trials(trials.steps, latent), found | stepped)

    @torch.no_grad()
    def target(self, seen: Step, latent: TaskLatent, views: Views, online: Along) -> Tensor:
        """What the team's value is to be, (T, B). ``online``: values and states of the networks that learn.

        They choose the next action, and the target networks say what it is worth (van Hasselt et al. 2016).
        """
        config, body = self.config, self.targets["agents"]
        with self.cast():
            best = of_legal(self.after(self.agents.body, views, online), seen.next_legal).argmax(-1)
            next_q = self.after(body, views, self.unrolled(body, views))
            next_q = next_q.gather(-1, best.unsqueeze(-1)).squeeze(-1)  # (T, B, N)
            condition = self.team.seen(seen.next_state, latent.global_[1:])
            next_value = self.targets["mixer"](torch.where(seen.next_alive, next_q, 0.0), condition)
        over = seen.terminated | ~seen.next_alive.any(-1)
        if config.time_limits == "terminal":
            over = over | seen.truncated
        reward = of_team(seen, self.spec)
        if config.standardise_rewards:
            reward = self.rewards.normalise(reward)
        next_value, cut = next_value.to(views.x.dtype), cut_off(seen)
        return lambda_targets(reward, next_value, over, cut, gamma=config.gamma, td_lambda=config.td_lambda)

    def views(self, seen: Step, latent: TaskLatent) -> Views:
        """What the agents' networks see along trials (T, B, ...), latents (T + 1, B, ...)."""
        cut = cut_off(seen).nonzero(as_tuple=True)
        after = self.agents.seen(seen.next_obs[cut], latent.local[1:][cut])
        return Views(self.agents.seen(seen.obs, latent.local[:-1]), self.recall.forgets(seen.episode_start), after, cut)

    def unrolled(self, body: nn.Module, views: Views) -> Along:
        """Along trials, the values (T, B, N, A) and, of recurrent agents, the states after each step, no gradient."""
        memory, x = self.initial_memory(views.x.shape[1]), views.x
        if memory is None:
            return body(x), None
        length = self.network_config.chunk_length or len(x)
        values, states, memory = [], [], memory.to(x.dtype)
        for part, start in zip(x.split(length), views.forgotten.split(length), strict=True):
            value, state = body(part, Memory(memory, start))
            memory = state[-1].detach()  # gradients go no further back
            values.append(value)
            states.append(state.detach())
        return torch.cat(values), torch.cat(states)

    def after(self, body: nn.Module, views: Views, along: Along) -> Tensor:
        """Values after each step (T, B, N, A): those of the next step, or of the true successor where it is cut off."""
        q, states = along
        of_last = body(views.after) if states is None else body(views.after[None], Memory(states[views.cut]))[0][0]
        after = q.roll(-1, 0)
        after[views.cut] = of_last
        return after

    # --- state -------------------------------------------------------------------------------------------------------

    def to(self, device: torch.device) -> Learner:
        self.targets.to(device)
        self.rewards.to(device)
        return super().to(device)

    def load_weights(self, state: State) -> None:
        super().load_weights(state)
        self.targets.catch_up()

    def state_dict(self) -> State:
        own = {"targets": self.targets.state_dict(), "rewards": dict(self.rewards.state_dict())}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        self.targets.load_state_dict(state["targets"])
        self.rewards.load_state_dict(state["rewards"])


def of_legal(q: Tensor, legal: Tensor | None) -> Tensor:
    """q (..., N, A), hugely negative where an action is not ``legal``; of agents without any legal action, as it is."""
    if legal is None:
        return q
    return q.masked_fill(~(legal | ~legal.any(-1, keepdim=True)), torch.finfo(q.dtype).min)


def cut_off(seen: Step) -> Tensor:
    """Steps of trials (T, B) after which the next one of the trial is not what followed, though something did."""
    cut = seen.truncated.clone()
    cut[-1] = True
    return cut
