"""Who should share with whom, found out from what comes of their actions: SePS (Christianos et al., ICML 2021).

A variational autoencoder predicts how an agent's observation changes and what it is paid, from observation, action and
a latent whose encoder sees nothing but who the agent is. So the latent holds what depends on that, and agents whose
latents lie together may share their weights (arXiv 2102.07475). Otherwise than in its code, in which five groups are
not found: inputs and outputs are standardised, changes are predicted and not next observations, and the
reward weighs as much as the observation does. Where several tasks were played, the decoder is told which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from envs.core import EnvSpec, setting
from mg2l_kalei.buffers.trials import TrialReplay
from mg2l_kalei.sharing.base import orthogonal_weight

FIELDS = ("obs", "action", "reward", "next_obs", "alive", "next_alive")  # of ``Step``, that are looked at
MAX_TRANSITIONS = 200_000  # of single agents
BATCH = 128  # transitions
LATENT_DIM = 10
WIDTH = 64
KL_COEF = 1e-4
STARTS = 10  # of k-means


@dataclass(frozen=True)
class GroupingConfig:
    """How groups are found, where members are groups."""

    n_groups: int = setting(0, "of members=groups: how many; 0: as many as the silhouette says", low=0)
    max_groups: int = setting(10, "of members=groups: most that are looked for, and have weights", low=2)
    group_updates: int = setting(10_000, "of members=groups: updates of the autoencoder that tells agents apart", low=1)
    group_lr: float = setting(1e-3, "of members=groups: its Adam's learning rate", above=0.0)
    refit_interval: int = setting(
        0, "of members=groups: environment steps after which they are found anew; 0: never again", low=0
    )


class Groups(NamedTuple):
    of_agents: tuple[int, ...]  # numbered in the order of their first agents
    latents: Tensor | None  # (N, latent_dim)   means, of each agent; None: they were not looked at
    silhouette: float  # in [-1, 1]; not looked at: 0


class _Data(NamedTuple):
    """Transitions of single agents, standardised: (M, ...)."""

    agent: Tensor  # int64
    given: Tensor  # (M, width)   observation, action, task
    outcome: Tensor  # (M, obs_dim + 1)   change of the observation, reward


def find_groups(replay: TrialReplay, spec: EnvSpec, config: GroupingConfig, generator: torch.Generator) -> Groups:
    """Groups of the agents of ``spec``, from the last trials of the replay: a function of the generator's state."""
    if known := settled(spec.n_agents, config.n_groups):
        return Groups(known, None, 0.0)
    data = _transitions(replay, spec, generator)
    latents = _agent_latents(data, spec.n_agents, config, generator)
    seed = int(torch.randint(2**31 - 1, (1,), generator=generator, device=generator.device))
    of_agents, silhouette = clusters(latents, config.n_groups, config.max_groups, seed)
    return Groups(of_agents, latents, silhouette)


def settled(n_agents: int, n_groups: int) -> tuple[int, ...] | None:
    """Groups that need no looking at, None where they do.

    Two agents are two without a number: by how far groups lie apart they cannot be told to be one or two.
    """
    if n_groups == 1:
        return (0,) * n_agents
    return tuple(range(n_agents)) if n_groups >= n_agents or (n_groups == 0 and n_agents <= 2) else None


def clusters(points: Tensor, n_groups: int, max_groups: int, seed: int) -> tuple[tuple[int, ...], float]:
    """k-means of N > 2 points (N, d) in 2 to N - 1 groups, and its silhouette; ``n_groups`` 0: the best by that."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    numbers, best = points.double().cpu().numpy(), (-2.0, ())
    for k in [n_groups] if n_groups else range(2, min(max_groups, len(points) - 1) + 1):
        labels = KMeans(k, n_init=STARTS, random_state=seed).fit_predict(numbers)
        score = float(silhouette_score(numbers, labels)) if len(set(labels)) > 1 else -1.0
        best = max(best, (score, tuple(labels.tolist())), key=lambda found: found[0])
    return _in_order(best[1]), best[0]


def adjusted_rand(true: Sequence[int], found: Sequence[int]) -> float:
    """How far two ways to group agents agree: 1 where they are the same, about 0 by chance (Hubert and Arabie 1985)."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(true, found))


def matched(new: tuple[int, ...], old: tuple[int, ...], n_members: int) -> tuple[int, ...]:
    """New groups by the numbers of the old ones that they share most agents with: what stays together keeps weights."""
    from scipy.optimize import linear_sum_assignment

    overlap = torch.zeros(n_members, n_members, dtype=torch.float64)
    for group, former in zip(new, old, strict=True):
        overlap[group, former] += 1
    rows, columns = linear_sum_assignment(-overlap.numpy())
    number = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    return tuple(number[group] for group in new)


def _in_order(labels: tuple[int, ...]) -> tuple[int, ...]:
    number = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return tuple(number[label] for label in labels)


def _transitions(replay: TrialReplay, spec: EnvSpec, generator: torch.Generator) -> _Data:
    """A random part of what is replayed, at most ``MAX_TRANSITIONS``."""
    n_cells = len(replay) * replay.n_steps
    cells = torch.randperm(n_cells, generator=generator, device=generator.device).to(replay.device)
    cells = cells[: max(1, MAX_TRANSITIONS // spec.n_agents)]
    trial, step = cells // replay.n_steps, cells % replay.n_steps
    seen = replay.steps(trial, step)
    tasks, task = replay.task[: len(replay)].unique(return_inverse=True)
    there = seen["alive"] & seen["next_alive"]  # (cells, N); what agents see once they have left means nothing
    agent = torch.arange(spec.n_agents, device=there.device).expand(len(cells), -1)
    obs = seen["obs"][there].float()
    parts = [_standardised(obs), _as_vectors(seen["action"][there], spec)]
    if len(tasks) > 1:
        told = nn.functional.one_hot(task[trial], len(tasks)).float()
        parts.append(told[:, None].expand(-1, spec.n_agents, -1)[there])
    change = _standardised(seen["next_obs"][there].float() - obs)
    reward = _standardised(seen["reward"][there].unsqueeze(-1)) * spec.obs_dim**0.5
    return _Data(agent[there], torch.cat(parts, dim=-1), torch.cat([change, reward], dim=-1))


def _as_vectors(action: Tensor, spec: EnvSpec) -> Tensor:
    return nn.functional.one_hot(action, spec.action_dim).float() if spec.is_discrete else action


def _standardised(x: Tensor) -> Tensor:
    """(M, d) by the moments of each number; what never changes is 0."""
    mean, std = x.mean(0), x.std(0, correction=0)
    return torch.where(std > 1e-6, (x - mean) / std.clamp(min=1e-6), 0.0)


def _agent_latents(data: _Data, n_agents: int, config: GroupingConfig, generator: torch.Generator) -> Tensor:
    """Means of the latents of each agent, after the autoencoder's updates: (N, latent_dim)."""
    device, n_given, n_outcomes = data.given.device, data.given.shape[-1], data.outcome.shape[-1]
    who = torch.eye(n_agents, device=device)
    encoder = _mlp((n_agents, WIDTH, 2 * LATENT_DIM), generator).to(device)
    decoder = _mlp((LATENT_DIM + n_given, WIDTH, WIDTH, n_outcomes), generator).to(device)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    adam = torch.optim.Adam(parameters, lr=config.group_lr, fused=True)
    with torch.enable_grad():
        for _ in range(config.group_updates):
            chosen = torch.randint(len(data.agent), (BATCH,), generator=generator, device=generator.device).to(device)
            noise = torch.randn(BATCH, LATENT_DIM, generator=generator, device=generator.device).to(device)
            mean, log_std = encoder(who).chunk(2, dim=-1)  # (N, latent_dim)
            agent = data.agent[chosen]
            latent = mean[agent] + noise * log_std[agent].exp()
            predicted = decoder(torch.cat([latent, data.given[chosen]], dim=-1))
            error = (predicted - data.outcome[chosen]).square().sum(-1).mean()
            kl = 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).sum(-1)[agent].mean()
            adam.zero_grad(set_to_none=True)
            (error + KL_COEF * kl).backward()
            adam.step()
    with torch.no_grad():
        means: Tensor = encoder(who)[:, :LATENT_DIM]
    return means


def _mlp(widths: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    """Linear layers with ReLUs between, orthogonal at first."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        linear = nn.utils.skip_init(nn.Linear, n_in, n_out)
        linear.weight.data.copy_(orthogonal_weight(n_out, n_in, 2**0.5, generator))
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
