"""Networks of a team whose agents' types are drawn for each episode, and stand in what agents see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mg2l_kalei.networks.config import NetworkConfig
from mg2l_kalei.networks.mlp import GroupedMlp
from mg2l_kalei.networks.recurrent import Memory, RecurrentMlp
from mg2l_kalei.sharing.base import GroupedLinear, ParameterSharing


class OfDrawnTypes(nn.Module):
    """A network whose K places are types, for N agents: each is answered by the type that it is of at the moment.

    x (..., N, in) has its type as one-hot in ``columns``; all K places answer all agents, K times the work, so that no
    weights are gathered. A type that is drawn for the episode is not to change while memory lasts.
    """

    columns: Tensor  # (K,) int64

    def __init__(self, network: GroupedMlp | RecurrentMlp, columns: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("columns", torch.tensor(columns), persistent=False)

    @property
    def output(self) -> GroupedLinear:
        """The last layer."""
        return self.network.output

    def forward(self, x: Tensor, memory: Memory | None = None) -> Any:
        """What ``GroupedMlp`` gives without ``memory``, and ``RecurrentMlp`` with it."""
        own = x[..., self.columns].argmax(-1)  # (..., N)
        asked = x.unsqueeze(-2).expand(*x.shape[:-1], len(self.columns), -1)  # (..., N, K, in)
        if memory is None:
            return _of(own, self.network(asked))
        state, start = memory.state, memory.start  # (S, N, size), (L, S)
        n_agents = state.shape[1]
        state = state.flatten(0, 1).unsqueeze(1).expand(-1, len(self.columns), -1)  # (S N, K, size)
        start = None if start is None else start.repeat_interleave(n_agents, dim=1)
        answers = self.network(asked.flatten(1, 2), Memory(state, start))
        return tuple(_of(own, answer.unflatten(1, (-1, n_agents))) for answer in answers)


def team_network(
    sharing: ParameterSharing, in_features: int, out_features: int, config: NetworkConfig, **settings: Any
) -> Any:
    """x (..., N, in_features) -> (..., N, out_features): a ``RecurrentMlp`` or, without memory, ``GroupedMlp``.

    ``settings`` are those of the latter. Where the scheme's places are types that are drawn, ``OfDrawnTypes`` wraps it.
    """
    network = (RecurrentMlp if config.is_recurrent else GroupedMlp)(
        sharing, in_features, out_features, config, **settings
    )
    return OfDrawnTypes(network, sharing.type_columns) if sharing.type_columns else network


def _of(own: Tensor, answers: Tensor) -> Tensor:
    """Of answers (..., N, K, out) those of each agent's own type (..., N): (..., N, out)."""
    chosen = own[..., None, None].expand(*own.shape, 1, answers.shape[-1])
    return torch.gather(answers, -2, chosen).squeeze(-2)
