"""MARIE's world model behind the seam: it learns from replayed trials and imagines rows."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from envs.core import EnvSpec
from mg2l_kalei.buffers.contexts import draw_below
from mg2l_kalei.buffers.trials import GIB, TrialReplay
from mg2l_kalei.buffers.windows import Moments, observed_trials, window
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.types import Clock, Metrics, State
from mg2l_kalei.world_models.base import Starts, Surroundings, WorldModel, task_latents
from mg2l_kalei.world_models.marie.config import MarieConfig
from mg2l_kalei.world_models.marie.imagination import DreamedRows
from mg2l_kalei.world_models.marie.network import Blocks
from mg2l_kalei.world_models.marie.prediction import Truth, losses
from mg2l_kalei.world_models.marie.team import MarieNetwork
from mg2l_kalei.world_models.scores import N_ROWS

POOL = 256  # trials of which latents are inferred anew for each rollout's updates


class Marie(WorldModel):
    """Tokens, and transformers over them. See ``docs/deviations.md`` for what differs from the published one."""

    config: MarieConfig
    network: MarieNetwork

    @classmethod
    def problems(cls, config: MarieConfig, spec: EnvSpec) -> Iterable[str]:
        if spec.obs_images is not None:
            yield "it makes tokens of vectors, and observations are images here"

    def __init__(self, config: MarieConfig, surroundings: Surroundings) -> None:
        super().__init__(config, surroundings)
        self.network = MarieNetwork(config, surroundings)
        self.adam = optimiser(self.network.dynamics, config.lr, config.weight_decay)
        tokenizer = self.network.tokenizer
        self.token_adam = optimiser(tokenizer, config.tokenizer_lr, config.weight_decay) if tokenizer.learns else None
        self.n_seen = 0  # trials whose statistics have been taken in
        self.n_token_updates = 0

    def learn(
        self, replay: TrialReplay, encoder: TaskEncoder, clock: Clock, *, n_updates: int, generator: torch.Generator
    ) -> Metrics:
        self._fit_normaliser(replay)
        trials = torch.randperm(len(replay), generator=generator, device=replay.device)[:POOL]
        latents = task_latents(replay, trials, encoder)
        found: list[Metrics] = []
        while n_updates and self.token_adam and self.n_token_updates < self.config.tokenizer_updates:
            self._update_tokenizer(replay, trials, generator)
        for _ in range(n_updates):
            metrics = self._update_tokenizer(replay, trials, generator) if self.token_adam else {}
            place = draw_below(torch.full((self.config.batch,), len(trials), device=trials.device), generator)
            metrics |= self._update(replay, trials[place], latents[place], generator)
            found.append(metrics)
        names = found[0] if found else ()
        return {name: torch.stack([torch.as_tensor(one[name]) for one in found]).mean() for name in names}

    def imagine(self, starts: Starts, task_latents: Tensor, generator: torch.Generator) -> DreamedRows:
        return DreamedRows(self.network, starts, task_latents, generator, self.spec)

    @property
    def remembered(self) -> float:
        dynamics, config = self.network.dynamics, self.config
        n_rows = max(config.imagined_rows, N_ROWS)  # an imagined rollout's, or those that errors are measured on
        n_places = n_rows * dynamics.sizes.n_agents * config.context_steps * dynamics.sizes.block
        return n_places * dynamics.transformer.place_size * dynamics.obs.weight.element_size() / GIB

    def sequences(
        self, replay: TrialReplay, trial: Tensor, latent: Tensor, generator: torch.Generator
    ) -> tuple[Blocks, Truth]:
        """Stretches of trials (B,), each begun anywhere."""
        network = self.network
        n_steps = min(self.config.context_steps, replay.n_steps)
        begun = draw_below(torch.full_like(trial, replay.n_steps - n_steps + 1), generator)
        steps = window(replay, Moments(trial, begun), before=0, after=n_steps).steps
        episode = torch.cat([steps.episode_start[:1] & False, steps.episode_start[1:]]).long().cumsum(0)
        blocks = Blocks(
            network.tokens(torch.where(steps.alive.unsqueeze(-1), steps.obs, 0.0)),
            network.action_tokens(steps.action),
            steps.alive,
            episode,
            latent if network.dynamics.sizes.latent_dim else latent[:, :0],
        )
        return blocks, Truth(steps.reward, steps.terminated, steps.next_alive, steps.next_legal, steps.alive)

    def _update(self, replay: TrialReplay, trial: Tensor, latent: Tensor, generator: torch.Generator) -> Metrics:
        """One step of the dynamics."""
        network, config = self.network, self.config
        blocks, truth = self.sequences(replay, trial, latent, generator)
        out = network.dynamics(blocks, generator)
        bins = network.reward_bins if config.reward_head == "hl_gauss" else None
        parts = losses(network.dynamics, blocks, out, truth, bins=bins, likeness=network.targets())
        loss = torch.stack(list(parts.values())).sum()
        norm = stepped(self.adam, loss, config.max_grad_norm)
        parts["end"] = parts.pop("goes_on") + parts.pop("alive")
        metrics: Metrics = {f"world_model/{name}_loss": part.detach() for name, part in parts.items()}
        return {**metrics, "world_model/loss": loss.detach(), "world_model/grad_norm": norm}

    def _update_tokenizer(self, replay: TrialReplay, trials: Tensor, generator: torch.Generator) -> Metrics:
        """One step of the tokenizer, on single observations of agents that were there."""
        assert self.token_adam is not None
        n = self.config.tokenizer_batch
        place, step = (
            draw_below(torch.full((n,), k, device=trials.device), generator) for k in (len(trials), replay.n_steps)
        )
        fields = replay.steps(trials[place], step)
        obs = self.network.standardised(fields["obs"][fields["alive"]])
        loss, metrics = self.network.tokenizer.loss(obs, generator)
        stepped(self.token_adam, loss, self.config.max_grad_norm)
        self.n_token_updates += 1
        return metrics

    def _fit_normaliser(self, replay: TrialReplay) -> None:
        """Take in the trials that are new."""
        n_new = min(replay.n_added - self.n_seen, replay.capacity)
        self.n_seen = replay.n_added
        if n_new and self.config.normalise_obs:
            slots = torch.arange(replay.n_added - n_new, replay.n_added, device=replay.device) % replay.capacity
            steps = observed_trials(replay, slots)
            self.network.moments.update(steps.obs[steps.alive])

    def state_dict(self) -> State:
        return {
            "adam": self.adam.state_dict(),
            "token_adam": None if self.token_adam is None else self.token_adam.state_dict(),
            "n_seen": self.n_seen,
            "n_token_updates": self.n_token_updates,
        }

    def load_state_dict(self, state: State) -> None:
        self.adam.load_state_dict(state["adam"])
        if self.token_adam is not None:
            self.token_adam.load_state_dict(state["token_adam"])
        self.n_seen, self.n_token_updates = state["n_seen"], state["n_token_updates"]


def optimiser(module: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays the weights of linear layers alone."""
    decayed = [layer.weight for layer in module.modules() if isinstance(layer, nn.Linear)]
    known = {id(weight) for weight in decayed}
    others = [parameter for parameter in module.parameters() if id(parameter) not in known]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, fused=True)


def stepped(adam: torch.optim.Optimizer, loss: Tensor, max_norm: float) -> Tensor:
    """One step on a loss; the gradient's norm before it was clipped."""
    adam.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_([p for group in adam.param_groups for p in group["params"]], max_norm)
    adam.step()
    return norm.detach()
