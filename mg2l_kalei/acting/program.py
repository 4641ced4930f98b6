"""A team's step as a pure function of tensors, so that it can be exported: no records, no objects, no randomness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from envs.core import EnvSpec
from mg2l_kalei.acting.collector import Policy
from mg2l_kalei.encoders.base import Belief, TaskEncoder
from mg2l_kalei.types import Transition


class TeamProgram(nn.Module):
    """What ``Team`` does from one observation to the next, with the mode of actions and the mean of latents.

    ``forward`` gives the action and the new state, for B rows of N agents. ``state``: what came out before, and before
    a trial zeros like ``initial_state``.

    obs (B, N, obs_dim) is seen now; arrived (B, N, obs_dim) is what the step before led to, which is obs but where an
    episode has been restarted since; reward (B, N) was paid for that step. alive (B, N) bool: who acts now.
    trial_start () bool: a new trial begins in all rows, and all is forgotten. episode_start (B,) bool: an episode
    begins. legal (B, N, n_actions) bool; None of continuous actions.
    """

    def __init__(
        self, policy: Policy, networks: Mapping[str, nn.Module], encoder: TaskEncoder, spec: EnvSpec, n_rows: int
    ) -> None:
        super().__init__()
        self.encoder, self.networks = encoder, nn.ModuleDict(networks)
        self.policy, self.spec, self.n_rows = policy, spec, n_rows
        self.eval()
        self.task = torch.zeros(n_rows, dtype=torch.int64)  # the oracle alone looks at it
        with torch.no_grad():
            observed = encoder.observe(encoder.prior(self.task), self._nothing_lived())
        leaves, self._belief = pytree.tree_flatten(observed)
        self._is_known = [leaf is not None for leaf in leaves]
        self.n_belief = sum(self._is_known)
        memory = policy.initial_memory(n_rows)
        state = [*self._nothing_lived(), *_tensors(observed), *([] if memory is None else [memory])]
        self.initial_state = [torch.zeros_like(x) for x in (torch.zeros((), dtype=torch.int64), *state)]

    def forward(
        self,
        state: Sequence[Tensor],
        obs: Tensor,
        *,
        arrived: Tensor,
        reward: Tensor,
        alive: Tensor,
        trial_start: Tensor,
        episode_start: Tensor,
        legal: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        n_lived = torch.where(trial_start, 0, state[0])
        lived = Transition._make(state[1 : 1 + len(Transition._fields)])._replace(reward=reward, next_obs=arrived)
        belief, latent = self._inferred(state[1 + len(lived) :][: self.n_belief], lived, n_lived)
        starts = episode_start | trial_start
        memory, recalled = self._remembered(state[1 + len(lived) + self.n_belief :], lived, (trial_start, starts))
        seen = self.policy.recall.seen(obs, recalled, starts)
        acted = self.policy.act(seen, legal, latent, memory, torch.Generator(), explore=None)
        now = lived._replace(obs=obs, action=acted.action, episode_start=starts, alive=alive)
        kept = [] if acted.memory is None else [acted.memory]
        # Copies: what a program gives back must not be what it was given.
        return acted.action, [x.clone() for x in (n_lived + 1, *now, *belief, *kept)]

    def _inferred(self, known: Sequence[Tensor], lived: Transition, n_lived: Tensor) -> tuple[list[Tensor], Tensor]:
        """The belief after what was lived, as tensors, and the local latents: at a trial's start those of the prior."""
        encoder, prior = self.encoder, self.encoder.prior(self.task)
        first = _tensors(encoder.observe(prior, lived))
        later = _tensors(encoder.observe(self._belief_of(known), lived))
        belief = [_chosen(n_lived <= 1, one, other) for one, other in zip(first, later, strict=True)]
        latent = encoder.local_latent(self._belief_of(belief))
        return belief, torch.where(n_lived == 0, encoder.local_latent(prior), latent)

    def _belief_of(self, tensors: Sequence[Tensor]) -> Belief:
        known = iter(tensors)
        return pytree.tree_unflatten([next(known) if is_known else None for is_known in self._is_known], self._belief)

    def _remembered(
        self, kept: Sequence[Tensor], lived: Transition, starts: tuple[Tensor, Tensor]
    ) -> tuple[Tensor | None, Tensor | None]:
        """The policy's memory, and what it is told of the step before: less where a trial or an episode starts."""
        recall, memory, recalled = self.policy.recall, (kept[0] if kept else None), self.policy.recall.of(lived)
        nothing, initial = (
            recall.nothing(lived.reward.shape, lived.reward.device),
            self.policy.initial_memory(self.n_rows),
        )
        trial_start, episode_start = starts
        memory = recall.restarted(memory, initial, episode_start)
        recalled = recall.restarted(recalled, nothing, episode_start)
        if memory is not None and initial is not None:
            memory = torch.where(trial_start, initial, memory)
        if recalled is not None and nothing is not None:
            recalled = torch.where(trial_start, nothing, recalled)
        return memory, recalled

    def example(self) -> dict[str, Any]:
        """Arguments of ``forward``, by name."""
        spec, nobody = self.spec, torch.zeros(self.n_rows, self.spec.n_agents)
        obs, everybody = torch.zeros(*nobody.shape, spec.obs_dim), torch.ones_like(nobody, dtype=torch.bool)
        legal = torch.ones(*nobody.shape, spec.action_dim, dtype=torch.bool) if spec.is_discrete else None
        flags = {"trial_start": torch.tensor(True), "episode_start": everybody[:, 0]}
        by_name = {"obs": obs, "arrived": obs.clone(), "reward": nobody, "alive": everybody, **flags}
        return {"state": self.initial_state, **by_name, **({} if legal is None else {"legal": legal})}

    def _nothing_lived(self) -> Transition:
        spec, zeros = self.spec, torch.zeros(self.n_rows, self.spec.n_agents)
        obs = torch.zeros(*zeros.shape, spec.obs_dim)
        action = zeros.long() if spec.is_discrete else torch.zeros(*zeros.shape, spec.action_dim)
        return Transition(obs, action, zeros, obs, torch.zeros(self.n_rows, dtype=torch.bool), zeros.bool())


def _tensors(tree: Belief) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if leaf is not None]


def _chosen(where: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """``torch.where``; of truth values by logic, as runtimes of ONNX lack it for them."""
    return (where & one) | (~where & other) if one.dtype == torch.bool else torch.where(where, one, other)
