"""Training of the task encoder: its contexts, its own optimiser, and what latents rollouts are made with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mg2l_kalei.acting.collector import Held
from mg2l_kalei.buffers.contexts import ContextConfig, ContextSampler
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.processes import ALONE, Processes
from mg2l_kalei.types import Metrics, State

MAX_GRAD_NORM = 10.0


class InferenceTrainer:
    """Owns the optimiser of an encoder that learns. ``generator`` draws contexts and posterior samples."""

    def __init__(
        self,
        encoder: TaskEncoder,
        contexts: ContextSampler,
        generator: torch.Generator,
        *,
        processes: Processes = ALONE,
    ) -> None:
        self.encoder, self.contexts, self.generator = encoder, contexts, generator
        self.processes = processes
        self.config: ContextConfig = contexts.config
        self.optimiser = torch.optim.AdamW(encoder.parameters(), lr=encoder.learning_rate(early=True), fused=True)

    def update(self, iteration: int) -> Metrics:
        """Steps of the encoder's own loss due in ``iteration`` (0, 1, ...); mean metrics under ``encoder/``."""
        early = iteration < self.config.n_early_iterations
        n_updates = self.config.n_early_updates if early else self.config.n_updates
        n_updates *= self.encoder.has_loss
        for group in self.optimiser.param_groups:
            group["lr"] = self.encoder.learning_rate(early=early)
        sums: dict[str, Tensor] = {}
        for _ in range(n_updates):
            loss, metrics = self.encoder.loss(self.contexts.sample(self.generator), self.generator)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.processes.mean_gradients(self.encoder.parameters())
            metrics["encoder/grad_norm"] = nn.utils.clip_grad_norm_(self.encoder.parameters(), MAX_GRAD_NORM)
            self.optimiser.step()
            for name, value in metrics.items():
                sums[name] = sums.get(name, torch.zeros(())) + torch.as_tensor(value).detach()
        return {name: total / n_updates for name, total in sums.items()}

    @torch.no_grad()
    def figures(self, n_new: int, generator: torch.Generator) -> Metrics:
        """How well tasks are inferred from the ``n_new`` trials added last, of which nothing was learned yet.

        They must not have been acted in on what other trials said. Nothing where there are not enough to compare.
        """
        drawn = self.contexts.unseen_and_stored(n_new, generator)
        return {} if drawn is None else self.encoder.figures(*drawn, generator)

    @torch.no_grad()
    def held_latents(self, task: Tensor) -> Held:
        """What q(z | c), of replayed c, tells a rollout on task (B,): a mean, or a sample where those are acted on."""
        contexts, sample = self.contexts.sample(self.generator, task), self.encoder.acts_on_samples
        return Held(self.encoder.encode(contexts, sample=sample, generator=self.generator).local, contexts)

    def prior_latents(self, n_rows: int, n_agents: int) -> Held:
        """Samples of the prior N(0, I), to explore with: each agent of a row is told the same."""
        device = self.contexts.replay.device
        z = torch.randn(n_rows, self.encoder.local_dim, generator=self.generator, device=device)
        return Held(z.unsqueeze(1).expand(-1, n_agents, -1), None)

    def state_dict(self) -> State:
        return self.optimiser.state_dict()

    def load_state_dict(self, state: State) -> None:
        self.optimiser.load_state_dict(state)
