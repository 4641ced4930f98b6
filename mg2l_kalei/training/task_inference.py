"""Training of the task encoder: its context buffer, its own optimiser, and what latents rollouts are made with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mg2l_kalei.acting.collector import Held
from mg2l_kalei.buffers.contexts import ContextBuffer
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.types import Metrics, Rollout, State

MAX_GRAD_NORM = 10.0


class InferenceTrainer:
    """Owns the encoder's buffer and optimiser. ``generator`` draws contexts and posterior samples."""

    def __init__(self, encoder: TaskEncoder, buffer: ContextBuffer, generator: torch.Generator) -> None:
        self.encoder, self.buffer, self.generator = encoder, buffer, generator
        self.config = buffer.config
        self.optimiser = None
        if encoder.learns:
            self.optimiser = torch.optim.AdamW(encoder.parameters(), lr=encoder.learning_rate(early=True), fused=True)

    def add(self, rollout: Rollout) -> None:
        """Keep the rollout's transitions, and take them into the input statistics."""
        if self.encoder.learns:
            self.encoder.fit_normaliser(rollout.transition)
            self.buffer.add(rollout.transition, rollout.task)

    def update(self, iteration: int) -> Metrics:
        """Steps of the encoder's own loss due in ``iteration`` (0, 1, ...); mean metrics under ``encoder/``."""
        early = iteration < self.config.n_early_iterations
        n_updates = self.config.n_early_updates if early else self.config.n_updates
        if self.optimiser is None or n_updates == 0:
            return {}
        for group in self.optimiser.param_groups:
            group["lr"] = self.encoder.learning_rate(early=early)
        sums: dict[str, Tensor] = {}
        for _ in range(n_updates):
            loss, metrics = self.encoder.loss(self.buffer.sample(self.generator), self.generator)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            metrics["encoder/grad_norm"] = nn.utils.clip_grad_norm_(self.encoder.parameters(), MAX_GRAD_NORM)
            self.optimiser.step()
            for name, value in metrics.items():
                sums[name] = sums.get(name, torch.zeros(())) + torch.as_tensor(value).detach()
        return {name: total / n_updates for name, total in sums.items()}

    @torch.no_grad()
    def held_latents(self, task: Tensor) -> Held | None:
        """What a rollout on task (B,) is to act on: None for its own history, else samples of q(z | c), c replayed."""
        if self.config.source == "online" or not self.encoder.learns:
            return None
        contexts = self.buffer.sample(self.generator, task)
        return Held(self.encoder.encode(contexts, sample=True, generator=self.generator).local, contexts)

    def prior_latents(self, n_rows: int, n_agents: int) -> Held:
        """Samples of the prior N(0, I), to explore with: each agent of a row is told the same."""
        device = self.buffer.device
        z = torch.randn(n_rows, self.encoder.global_dim, generator=self.generator, device=device)
        return Held(z.unsqueeze(1).expand(-1, n_agents, -1), None)

    def state_dict(self) -> State:
        optimiser = None if self.optimiser is None else self.optimiser.state_dict()
        return {"buffer": self.buffer.state_dict() if self.encoder.learns else None, "optimiser": optimiser}

    def load_state_dict(self, state: State) -> None:
        if self.optimiser is not None:
            self.optimiser.load_state_dict(state["optimiser"])
            self.buffer.load_state_dict(state["buffer"])
