"""Small encoders, learners and random rollouts for tests: nothing here depends on a family's physics."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from envs.core import EnvSpec, TaskFamily
from mg2l_kalei.acting.collector import Team
from mg2l_kalei.buffers.contexts import ContextConfig, ContextSampler
from mg2l_kalei.buffers.trials import ReplayConfig, TrialReplay
from mg2l_kalei.encoders import ENCODERS
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.learners import LEARNERS
from mg2l_kalei.learners.base import Experience, Learner, Setup
from mg2l_kalei.networks import NetworkConfig
from mg2l_kalei.sharing import SHARINGS, ParameterSharing, team_sharing
from mg2l_kalei.types import Clock, Contexts, Metrics, Rollout, Step, Transition

CONTINUOUS = EnvSpec(n_agents=3, obs_dim=4, state_dim=5, action_dim=2, is_discrete=False, episode_steps=4)
DISCRETE = EnvSpec(n_agents=3, obs_dim=4, state_dim=5, action_dim=6, is_discrete=True, episode_steps=4)
SPECS = {"continuous": CONTINUOUS, "discrete": DISCRETE}
FEATURES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])  # of three tasks

SMALL_ENCODERS: dict[str, dict[str, Any]] = {
    "mg2l": {"latent_dim": 4, "hidden": (16, 16), "n_heads": 2, "window": 4},
}
SMALL_LEARNERS: dict[str, dict[str, Any]] = {
    "mappo": {"n_epochs": 2, "n_minibatches": 2, "encoder_epochs": 1},
    "matd3": {"batch": 16, "n_step": 3, "warmup_steps": 0},
    "qmix": {"batch": 4, "updates_per_episode": 0.25, "mixer_width": 4, "hypernet_width": 8, "target_update": 2.0},
}
SMALL_NETWORK: dict[str, Any] = {"hidden": (16, 16)}
TOTAL_ENV_STEPS = 10_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed))


def make_encoder(kind: str, spec: EnvSpec = CONTINUOUS, *, seed: int = 0, **settings: Any) -> TaskEncoder:
    """An encoder of little width for the three tasks of ``FEATURES``; all are training tasks."""
    encoder_class, default = ENCODERS[kind]
    config = dataclasses.replace(default, **SMALL_ENCODERS.get(kind, {}) | settings)
    return encoder_class(config, spec, FEATURES, len(FEATURES), generator(seed))


def make_learner(
    encoder: TaskEncoder,
    spec: EnvSpec = CONTINUOUS,
    *,
    kind: str = "mappo",
    sharing: str = "full",
    members: str = "",
    seed: int = 0,
    **settings: Any,
) -> Learner:
    """A learner of little width that makes few steps; ``settings`` are its own and its network's."""
    learner_class, default = LEARNERS[kind]
    names = {field.name for field in dataclasses.fields(NetworkConfig)}
    network = NetworkConfig(**SMALL_NETWORK | {name: value for name, value in settings.items() if name in names})
    own = {name: value for name, value in settings.items() if name not in names}
    config = dataclasses.replace(default, **SMALL_LEARNERS.get(kind, {}) | own)
    weights = generator(seed)

    def make_sharing() -> ParameterSharing:
        own = {"members": members} if members else {}
        return team_sharing(sharing, dataclasses.replace(SHARINGS[sharing][1], **own), spec, weights)

    return learner_class(config, Setup(network, spec, encoder, make_sharing, weights))


def can_learn(kind: str, spec: EnvSpec) -> bool:
    """Whether a learner takes such actions."""
    learner_class, default = LEARNERS[kind]
    return not list(learner_class.problems(default, spec))


def at(env_steps: int) -> Clock:
    """The clock after so many steps of a small run."""
    return Clock(0, env_steps, TOTAL_ENV_STEPS)


def update(
    learner: Learner, encoder: TaskEncoder, rollout: Rollout, env_steps: int = 36, seed: int = 0, *, capacity: int = 0
) -> Metrics:
    """One update of a learner on a rollout, which is all that its replay holds if it wants one, of so many trials.

    0: as many as there are.
    """
    replay = None
    if learner.replays:
        steps = rollout.steps
        spec = learner.spec._replace(obs_dim=steps.obs.shape[-1], state_dim=steps.state.shape[-1])
        replay = TrialReplay(
            ReplayConfig(capacity=capacity or len(rollout.task)),
            spec,
            len(steps.obs),
            learner.replays,
            rollout.task.device,
        )
        replay.add(steps, rollout.task)
    return learner.update(Experience(rollout, replay, encoder), at(env_steps), generator(seed))


def with_steps(rollout: Rollout, **fields: Any) -> Rollout:
    """The rollout with other fields of its steps."""
    return rollout._replace(steps=rollout.steps._replace(**fields))


def random_rollout(spec: EnvSpec = CONTINUOUS, n_steps: int = 9, n_rows: int = 4, *, seed: int = 0) -> Rollout:
    """A rollout of noise: shapes and types as they should be, episodes of ``spec.episode_steps`` that time ends."""
    T, B, N = n_steps, n_rows, spec.n_agents
    stream = generator(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=stream)

    if spec.is_discrete:
        action = torch.randint(spec.action_dim, (T, B, N), generator=stream)
    else:
        action = noise(T, B, N, spec.action_dim)
    step = torch.arange(T).unsqueeze(-1).expand(T, B)
    alive = torch.ones(T, B, N, dtype=torch.bool)
    steps = Step(
        obs=noise(T, B, N, spec.obs_dim),
        next_obs=noise(T, B, N, spec.obs_dim),
        state=noise(T, B, spec.state_dim),
        next_state=noise(T, B, spec.state_dim),
        action=action,
        legal=None,
        next_legal=None,
        reward=noise(T, B, N),
        terminated=torch.zeros(T, B, dtype=torch.bool),
        truncated=(step + 1) % spec.episode_steps == 0,
        episode_start=step % spec.episode_steps == 0,
        alive=alive,
        next_alive=alive.clone(),
    )
    return Rollout(steps, task=torch.arange(B) % len(FEATURES), latent=torch.zeros(T, B, N, 0))


def acted_by(learner: Learner, encoder: TaskEncoder, rollout: Rollout, *, seed: int = 0) -> Rollout:
    """The rollout with latents, actions, log-probabilities and memories that the learner would have had in it."""
    memories, acted, stream = [], [], generator(seed)
    with torch.no_grad():
        latent = encoder.latents(rollout).local[:-1]
        team = Team(learner, encoder, stream)
        team.begin(rollout.task)
        for t, start in enumerate(rollout.steps.episode_start):
            if t > 0:
                team.restart(start)
            team.latent, memory = latent[t], team.memory
            if memory is not None:
                memories.append(memory)
            acted.append(team.act(rollout.steps.obs[t], explore=at(0)))
            lived = Transition(*(field[t] for field in rollout.transition))
            team.observe(lived._replace(action=acted[-1].action))
    log_probs = [step.log_prob for step in acted if step.log_prob is not None]
    return with_steps(rollout, action=torch.stack([step.action for step in acted]))._replace(
        latent=latent,
        log_prob=torch.stack(log_probs) if log_probs else None,
        memory=torch.stack(memories) if memories else None,
    )


def random_play(family: TaskFamily, task: Tensor, seed: int) -> Contexts:
    """An episode in each row of a family with forces in the plane, or numbered actions, by teams that act at random."""
    n_rows, stream, steps = len(task), generator(seed + 1), []
    env = family.make(n_rows, torch.device("cpu"), generator(seed))
    obs, _, _, alive = env.reset(task)
    for t in range(family.spec.episode_steps):
        action = 2 * torch.rand(n_rows, family.spec.n_agents, 2, generator=stream) - 1
        if family.spec.is_discrete:
            action = ((action[..., 0] + 1) / 2 * family.spec.action_dim).long()
        result = env.step(action)
        start = torch.full((n_rows,), t == 0)
        steps.append(Transition(obs, action, result.reward, result.obs, start, alive))
        obs, alive = result.obs, result.alive
    return Contexts(Transition(*(torch.stack(field) for field in zip(*steps, strict=True))), task)


def as_contexts(rollout: Rollout) -> Contexts:
    """Each row's whole trial as one context."""
    return Contexts(rollout.transition, rollout.task)


def as_steps(transition: Transition) -> Step:
    """Steps of which nothing but the agents' transitions is known: all else is zero."""
    of_rows, of_agents = transition.episode_start, transition.alive
    nothing = of_rows.new_zeros((*of_rows.shape, 0), dtype=torch.float32)
    return Step(
        **transition._asdict(),
        state=nothing,
        next_state=nothing,
        legal=None,
        next_legal=None,
        terminated=torch.zeros_like(of_rows),
        truncated=torch.zeros_like(of_rows),
        next_alive=of_agents,
    )


def sampler(trials: Contexts, spec: EnvSpec, config: ContextConfig, *, n_consecutive: int = 1) -> ContextSampler:
    """Draws contexts from these trials, each of them a row's."""
    T, B = trials.transition.episode_start.shape
    replay = TrialReplay(ReplayConfig(capacity=B), spec, T, Transition._fields, torch.device("cpu"))
    replay.add(as_steps(trials.transition), trials.task)
    return ContextSampler(config, replay, n_consecutive=n_consecutive)
