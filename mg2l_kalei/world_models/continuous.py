"""A world model for the CPU: observations, rewards, ends, legal actions and who is there, predicted as they are.

An MLP per agent, shared by all, with attention over agents, sees some steps and the task's latent, and predicts by how
much observations change. It is trained to predict several steps from its own predictions, as it is used. An ensemble
of them (Chua et al. 2018, arXiv 1805.12114; Janner et al. 2019, arXiv 1906.08253) knows where it disagrees.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from envs.core import EnvSpec, setting
from mg2l_kalei.buffers.trials import TrialReplay
from mg2l_kalei.buffers.windows import Window, draw_moments, observed_trials, window
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.losses.masking import masked_mean
from mg2l_kalei.types import Clock, Metrics, State, Step
from mg2l_kalei.world_models.base import ImaginationConfig, Starts, Surroundings, WorldModel, task_latents
from mg2l_kalei.world_models.imagined import ImaginedRows
from mg2l_kalei.world_models.team_network import Predicted, Seen, TeamNetwork


@dataclass(frozen=True)
class ContinuousConfig(ImaginationConfig):
    width: int = setting(96, "of the model's layers", low=1)
    n_heads: int = setting(4, "of its attention over agents", low=1)
    model_lr: float = setting(1e-3, "Adam's learning rate", above=0)
    model_batch: int = setting(128, "moments of an update, for each member of the ensemble", low=1)
    unroll: int = setting(3, "steps that are learned to be predicted one from the other; 1: only from real ones", low=1)
    pool: int = setting(
        256, "trials, drawn anew for each rollout, that the moments of its updates are drawn from", low=1
    )
    members: int = setting(3, "models of the ensemble, whose mean is imagined", low=1)
    max_spread: float = setting(
        0.0, "disagreement of the ensemble on observations, in deviations, that cuts imagination short; 0: none", low=0
    )
    max_model_grad_norm: float = setting(10.0, "of the model", above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.n_heads:
            raise ValueError(f"width={self.width} is not a multiple of n_heads={self.n_heads}")
        if self.max_spread and self.members == 1:
            raise ValueError(f"max_spread={self.max_spread:g} with members=1: one model disagrees with nobody")


class ContinuousModel(WorldModel):
    """See the module's docstring."""

    config: ContinuousConfig
    network: TeamNetwork

    @classmethod
    def problems(cls, config: ContinuousConfig, spec: EnvSpec) -> Iterable[str]:
        if spec.obs_images is not None:
            yield "it predicts vectors, and observations are images here"

    def __init__(self, config: ContinuousConfig, surroundings: Surroundings) -> None:
        super().__init__(config, surroundings)
        self.network = TeamNetwork(
            *surroundings,
            n_members=config.members,
            n_steps=config.burn_in + 1,
            width=config.width,
            n_heads=config.n_heads,
        )
        self.adam = torch.optim.Adam(self.network.parameters(), lr=config.model_lr, fused=True)
        self.n_seen = 0  # trials whose statistics have been taken in

    def learn(
        self, replay: TrialReplay, encoder: TaskEncoder, clock: Clock, *, n_updates: int, generator: torch.Generator
    ) -> Metrics:
        config, steps = self.config, []
        self._fit_normalisers(replay)
        trials = torch.randperm(len(replay), generator=generator, device=replay.device)[: config.pool]
        latents = task_latents(replay, trials, encoder)
        by_slot = latents.new_zeros(replay.capacity, latents.shape[-1]).index_copy(0, trials, latents)
        for _ in range(n_updates):
            moments = draw_moments(trials, replay.n_steps, config.members * config.model_batch, generator)
            around = window(replay, moments, before=config.burn_in, after=config.unroll)
            steps.append(self._update(around, by_slot[moments.trial]))
        return {name: torch.stack([step[name] for step in steps]).mean() for name in (steps[0] if steps else ())}

    def imagine(self, starts: Starts, task_latents: Tensor, generator: torch.Generator) -> ImaginedRows:
        config = self.config
        return ImaginedRows(
            self.network,
            starts,
            task_latents,
            generator,
            self.spec,
            horizon=config.imagined_steps,
            max_spread=config.max_spread,
        )

    def _fit_normalisers(self, replay: TrialReplay) -> None:
        """Take in the trials that are new."""
        network, n_new = self.network, min(replay.n_added - self.n_seen, replay.capacity)
        self.n_seen = replay.n_added
        if not n_new:
            return
        slots = torch.arange(replay.n_added - n_new, replay.n_added, device=replay.device) % replay.capacity
        steps = observed_trials(replay, slots)
        stayed = steps.alive & steps.next_alive
        network.obs.update(steps.obs[steps.alive])
        network.change.update((steps.next_obs - steps.obs)[stayed])
        network.reward.update(steps.reward[steps.alive].unsqueeze(-1))

    def _update(self, around: Window, latent: Tensor) -> dict[str, Tensor]:
        """One step on windows (L, E B, ...), latent (E B, latent_dim)."""
        loss, metrics = self._loss(around, latent)
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_model_grad_norm)
        self.adam.step()
        return {**metrics, "world_model/loss": loss.detach(), "world_model/grad_norm": norm.detach()}

    def _loss(self, around: Window, latent: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Of predictions one step ahead, and of those made from them; the mean over steps that were lived."""
        config = self.config
        batches = (config.members, -1)
        steps = Step._make(None if x is None else x.unflatten(1, batches) for x in around.steps)  # (L, E, B, ...)
        is_known, latent = around.is_known.unflatten(1, batches), latent.unflatten(0, batches)
        obs, parts = steps.obs[: config.burn_in + 1], []
        for first in range(config.unroll):
            stretch, now = slice(first, first + config.burn_in + 1), first + config.burn_in
            seen = Seen(obs, steps.action[stretch], steps.alive[stretch], is_known[stretch], latent)
            predicted = self.network(seen)
            counts = is_known[now].unsqueeze(-1) & steps.alive[now]
            parts.append(self._errors(predicted, Step._make(None if x is None else x[now] for x in steps), counts))
            obs = torch.cat([obs[1:], predicted.next_obs.unsqueeze(0)])
        means = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
        return torch.stack(list(means.values())).sum(), {f"world_model/{k}_loss": x.detach() for k, x in means.items()}

    def _errors(self, predicted: Predicted, true: Step, counts: Tensor) -> dict[str, Tensor]:
        """Losses of one step (E, B, ...), of the agents that count (E, B, N)."""
        network, stays = self.network, counts & true.next_alive
        off = network.error(predicted.next_obs, true.next_obs)  # (E, B, N, obs_dim)
        paid = (predicted.reward - true.reward) / network.reward.scale
        goes_on = F.binary_cross_entropy_with_logits(predicted.goes_on, (~true.terminated).float(), reduction="none")
        next_alive = F.binary_cross_entropy_with_logits(predicted.next_alive, true.next_alive.float(), reduction="none")
        losses = {
            "obs": masked_mean(_huber(off).mean(-1), stays),
            "reward": masked_mean(_huber(paid), counts),
            "end": masked_mean(goes_on, counts.any(-1)) + masked_mean(next_alive, counts),
        }
        if true.next_legal is not None:
            each = F.binary_cross_entropy_with_logits(
                predicted.next_legal, true.next_legal.float(), reduction="none"
            ).mean(-1)
            losses["legal"] = masked_mean(each, stays)
        return losses

    def state_dict(self) -> State:
        return {"adam": self.adam.state_dict(), "n_seen": self.n_seen}

    def load_state_dict(self, state: State) -> None:
        self.adam.load_state_dict(state["adam"])
        self.n_seen = state["n_seen"]


def _huber(error: Tensor) -> Tensor:
    """Half the square up to 1, linear beyond: a collision must not drown what is usual."""
    return F.huber_loss(error, torch.zeros_like(error), reduction="none")
