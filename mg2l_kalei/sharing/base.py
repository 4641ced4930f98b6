"""The interface of parameter sharing: which weight matrix member g of a group multiplies by."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from mg2l_kalei.types import Metrics, State

SharingConfig = Any  # the frozen config dataclass of one scheme


class GroupedLinear(nn.Module, ABC):
    """A linear layer over a group of G members: ``(..., G, in) -> (..., G, out)``, each by its own effective weight.

    Effective weights are formed once for all rows of a pass, and once per parameter update while acting (``frozen``);
    they are never gathered per sample.
    """

    n_members: int
    in_features: int
    out_features: int
    weight: nn.Parameter  # (out, in), or a matrix per member
    bias: nn.Parameter  # (out,), or a vector per member

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """``(..., G, in_features) -> (..., G, out_features)``."""


class ParameterSharing(ABC):
    """One scheme, for one network. It makes the network's linear layers and owns what the scheme adds to training.

    Constructors are called as ``Sharing(config, n_members, generator)``: the scheme's frozen config, members of the
    group (agents, or agent types), and a CPU generator for initial weights, which layers consume in the order they are
    made. ``total_env_steps`` is the length of training, for schemes that do something different at its end.
    """

    def __init__(
        self,
        config: SharingConfig,
        n_members: int,
        generator: torch.Generator,
        *,
        total_env_steps: float = math.inf,
    ) -> None:
        self.config = config
        self.n_members = n_members
        self.generator = generator
        self.total_env_steps = total_env_steps

    @abstractmethod
    def linear(
        self,
        in_features: int,
        out_features: int,
        *,
        gain: float,
        masked: bool = True,
        resettable: bool = True,
        layer_weight: float = 1.0,
    ) -> GroupedLinear:
        """One layer: orthogonal weights times ``gain``, zero bias. The last three speak to masking schemes only."""

    @abstractmethod
    def vector(self, size: int, value: float) -> nn.Parameter:
        """A free parameter per member, broadcastable to (G, size), such as a log standard deviation."""

    def parameter_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """The network's parameters as an optimiser takes them, with options of their own where the scheme needs it."""
        return [{"params": list(network.parameters())}]

    def loss(self, network: nn.Module, main_loss: Tensor) -> tuple[Tensor, Metrics]:
        """A term to add to ``main_loss``, already weighted: scalar tensor, and metrics under ``sharing/``."""
        return torch.zeros((), device=main_loss.device), {}

    def on_env_steps(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, env_steps: int, generator: torch.Generator
    ) -> Metrics:
        """What is due after ``env_steps`` in all, such as mask resets, which also clear moments of reset entries."""
        return {}

    def metrics(self, network: nn.Module) -> Metrics:
        """What is worth logging about the network now, such as sparsity."""
        return {}

    def state_dict(self) -> State:
        """Everything that changes and is not a parameter of the network."""
        return {}

    def load_state_dict(self, state: State) -> None:  # noqa: B027 - optional
        """Restore what ``state_dict`` gave."""


def orthogonal_weight(out_features: int, in_features: int, gain: float, generator: torch.Generator) -> Tensor:
    """An orthogonal matrix times ``gain``: (out_features, in_features)."""
    return nn.init.orthogonal_(torch.empty(out_features, in_features), gain, generator)


def grouped_affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Member g's rows times its own matrix: (..., G, in), (G, out, in), (out,) or (G, out) -> (..., G, out).

    One batched product over strided views: neither rows nor weights are copied or gathered.
    """
    rows = x.reshape(-1, *x.shape[-2:]).transpose(0, 1)  # (G, M, in)
    y = torch.baddbmm(bias.unsqueeze(-2), rows, weight.mT)  # (G, M, out)
    return y.transpose(0, 1).reshape(*x.shape[:-1], weight.shape[-2])  # (..., G, out)
