"""The interface of parameter sharing: which weight matrix each place of a group multiplies by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from envs.core import EnvSpec, setting
from mg2l_kalei.buffers.trials import TrialReplay
from mg2l_kalei.sharing.figures import SharingFigure
from mg2l_kalei.types import Clock, Metrics, State

SharingConfig = Any  # the frozen config dataclass of one scheme
MEMBERS = ("agents", "types")


def members_setting(default: str = "agents", *, groups: bool = False) -> Any:
    """The setting that says who has weights, or a mask, of its own. ``groups``: whether members can be found out."""
    found = ", or each group that is found out by what comes of actions" if groups else ""
    meaning = f"who has weights, or a mask, of its own: each agent, each type of agent{found}"
    return setting(default, meaning, choices=(*MEMBERS, "groups") if groups else MEMBERS)


class LayerRole(NamedTuple):
    """What a layer is in its network, for schemes that do not treat all layers alike."""

    is_masked: bool = True
    is_resettable: bool = True
    weight: float = 1.0  # of the layer in a diversity term
    reads_input: bool = False  # the network's first layer
    reads_state: bool = False  # what a GRU's state adds to its gates
    is_output: bool = False  # the network's last layer


class GroupedLinear(nn.Module, ABC):
    """A linear layer over a group of N places: ``(..., N, in) -> (..., N, out)``, each by its member's weight.

    Its weights are never gathered per sample.
    """

    in_features: int
    out_features: int
    weight: nn.Parameter  # (out, in), or a matrix per member
    bias: nn.Parameter  # (out,), or a vector per member

    scaled: ClassVar[Sequence[str]] = ("weight", "bias")  # parameters that make outputs c times as large by being so
    shifted: ClassVar[str] = "bias"  # what is added to all outputs

    @torch.no_grad()
    def rescale(self, scale: Tensor, shift: Tensor) -> None:
        """Change parameters so that outputs are ``scale`` times what they were, and ``shift`` more: (1,) each."""
        for name in self.scaled:
            getattr(self, name).mul_(scale)
        getattr(self, self.shifted).add_(shift)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """``(..., N, in_features) -> (..., N, out_features)``."""

    def matrices(self, n_places: int) -> tuple[Tensor, Tensor]:
        """The matrix (N, in, out) and bias (N, 1, out) of each place; those of one place alone where all have the same.

        Read off what the layer does, as any scheme's is affine; schemes that have them at hand say so.
        """
        units = torch.eye(self.in_features, out=self.weight.new_empty(self.in_features, self.in_features))
        bias = self(torch.zeros_like(units[:1, None]).expand(-1, n_places, -1))
        matrix = self(units[:, None].expand(-1, n_places, -1)) - bias
        return matrix.transpose(0, 1).contiguous(), bias.transpose(0, 1)


class FormedLinear(GroupedLinear):
    """A grouped layer whose members' weights are formed from parameters that are not theirs alone.

    They are formed in each forward pass, once for all of its rows; inside ``frozen``, once for all passes.
    """

    places: Tensor | None  # (N,) int64   the member of each place; None: the places are the members

    def __init__(self, in_features: int, out_features: int, places: Tensor | None = None) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("places", places)
        self.frozen_weights: tuple[Tensor, Tensor] | None = None  # set by ``frozen`` only

    @abstractmethod
    def effective_weight(self) -> Tensor:
        """Each member's weights, (G, out, in)."""

    def effective_bias(self) -> Tensor:
        """The bias of all, (out,), or each member's, (G, out)."""
        return self.bias

    def forward(self, x: Tensor) -> Tensor:
        return grouped_affine(x, *self._weights(), self.places)

    def matrices(self, n_places: int) -> tuple[Tensor, Tensor]:
        weight, bias = self._weights()
        bias = bias.expand(len(weight), -1)
        if self.places is not None:
            weight, bias = weight[self.places], bias[self.places]
        return weight.mT, bias[:, None]

    def _weights(self) -> tuple[Tensor, Tensor]:
        if self.frozen_weights is None or torch.is_grad_enabled():
            return self.effective_weight(), self.effective_bias()
        return self.frozen_weights


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Form the network's effective weights once for all gradient-free passes in this block, such as a rollout's.

    A block, and not a cache keyed on parameter versions, because fused optimisers change parameters without a new
    version. Passes with gradient are as ever. Raises RuntimeError at the end if weights changed inside the block.
    """
    layers = [module for module in network.modules() if isinstance(module, FormedLinear)]
    with torch.no_grad():
        formed = [(layer.effective_weight(), layer.effective_bias()) for layer in layers]
    for layer, weights in zip(layers, formed, strict=True):
        layer.frozen_weights = weights
    try:
        yield
    finally:
        for layer in layers:
            layer.frozen_weights = None
    with torch.no_grad():
        changed = [
            i
            for i, (layer, (weight, bias)) in enumerate(zip(layers, formed, strict=True))
            if not (torch.equal(layer.effective_weight(), weight) and torch.equal(layer.effective_bias(), bias))
        ]
    if changed:
        raise RuntimeError(f"weights of formed layers {changed} were changed while they were frozen")


def have_own_weights(network: nn.Module) -> bool:
    """Whether members of a network have parameters of their own, more than thresholds of masks."""
    names = {name for module in network.modules() for name in getattr(module, "of_members", ())}
    return bool(names - {"thresholds"})


class GroupedVector(nn.Module):
    """A free vector of each member, such as a log standard deviation."""

    of_members = ("value",)

    def __init__(self, value: Tensor, places: Tensor | None = None) -> None:
        super().__init__()
        self.value = nn.Parameter(value)  # (size,), or (G, size)
        self.register_buffer("places", places)

    places: Tensor | None  # (N,) int64   the member of each place; None: the places are the members

    def forward(self) -> Tensor:
        """Broadcastable to (N, size)."""
        return self.value if self.places is None else self.value[self.places]


class ParameterSharing(ABC):
    """One scheme, for one network. It makes the network's linear layers and owns what the scheme adds to training.

    Constructors are called as ``Sharing(config, members, generator)``: the scheme's frozen config; the member, 0, 1,
    ..., that each of N places is (agents, or the members of an ensemble); and a CPU generator for initial weights,
    which layers consume in the order they are made.
    """

    def __init__(self, config: SharingConfig, members: Sequence[int], generator: torch.Generator) -> None:
        self.config = config
        self.members = tuple(members)
        assert set(self.members) == set(range(max(self.members) + 1)), "members are numbered 0, 1, ... without gaps"
        self.n_places, self.n_members = len(self.members), max(self.members) + 1
        self.generator = generator

    told: Mapping[str, float] = {}  # of what ``fit`` last took note of: metrics under ``sharing/``, logged from then on
    replays: Sequence[str] = ()  # fields of ``Step`` that ``fit`` wants of past trials
    type_columns: Sequence[int] = ()  # of observations, if places are types that are drawn for each episode

    @staticmethod
    def members_of(config: SharingConfig, spec: EnvSpec) -> Sequence[int]:
        """The member that each agent is, by the config's ``members``; of types that are drawn, each type's own."""
        if getattr(config, "members", "agents") == "agents":
            return range(spec.n_agents)
        if spec.type_columns:
            return range(len(spec.type_columns))
        types = spec.agent_types or (0,) * spec.n_agents
        return tuple(sorted(set(types)).index(kind) for kind in types)

    @property
    def places(self) -> Tensor | None:
        """The member of each place, (N,) int64; None where the places are the members."""
        return None if self.members == tuple(range(self.n_places)) else torch.tensor(self.members)

    @abstractmethod
    def linear(
        self, in_features: int, out_features: int, *, gain: float, role: LayerRole = LayerRole()
    ) -> GroupedLinear:
        """One layer: orthogonal weights times ``gain``, zero bias."""

    @abstractmethod
    def vector(self, size: int, value: float) -> GroupedVector:
        """A free vector per member, all entries ``value`` at first."""

    def parameter_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """The network's parameters as an optimiser takes them, with options of their own where the scheme needs it."""
        return [{"params": list(network.parameters())}]

    def frozen(self, network: nn.Module) -> AbstractContextManager[None]:
        """A block in which the network's weights do not change, and what is formed from them is formed once."""
        return frozen(network)

    def loss(self, network: nn.Module, main_loss: Tensor) -> tuple[Tensor, Metrics]:
        """A term to add to ``main_loss``, already weighted: scalar tensor, and metrics under ``sharing/``."""
        return torch.zeros((), device=main_loss.device), {}

    def on_env_steps(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, clock: Clock, generator: torch.Generator
    ) -> Metrics:
        """What is due by the clock, such as mask resets, which also clear moments of reset entries."""
        return {}

    def on_loaded(self, network: nn.Module) -> None:  # noqa: B027 - optional
        """Take note of what the network's weights, which came from another run, say of who shares with whom."""

    def needs_fit(self, replay: TrialReplay | None, clock: Clock) -> bool:
        """Whether ``fit`` is to be called before the next update, with what is replayed by then."""
        return False

    def find(self, replay: TrialReplay, spec: EnvSpec, generator: torch.Generator) -> Any:
        """Find out from replayed trials who shares with whom: what ``fit`` of each network's scheme takes note of."""
        raise NotImplementedError(f"{type(self).__name__} finds nothing out")

    def fit(  # noqa: B027 - optional
        self, network: nn.Module, found: Any, clock: Clock, adam: torch.optim.Optimizer | None = None
    ) -> None:
        """Set the layers' ``places``, which are saved with the weights, and ``told``, by what ``find`` has found.

        ``adam`` remembers of the network's weights what has to go where they go; None: nothing does.
        """

    def metrics(self, network: nn.Module) -> Metrics:
        """What is worth logging about the network now, such as sparsity."""
        return {}

    @property
    def groups(self) -> Sequence[int] | None:
        """The group of each place, where ``fit`` has found them."""
        return None

    def figures(self, network: nn.Module) -> Sequence[SharingFigure]:
        """What is worth looking at."""
        return ()

    def state_dict(self) -> State:
        """Everything that changes and is not a parameter of the network."""
        return {}

    def load_state_dict(self, state: State) -> None:  # noqa: B027 - optional
        """Restore what ``state_dict`` gave."""


def orthogonal_weight(out_features: int, in_features: int, gain: float, generator: torch.Generator) -> Tensor:
    """An orthogonal matrix times ``gain``: (out_features, in_features)."""
    return nn.init.orthogonal_(torch.empty(out_features, in_features, device=generator.device), gain, generator)


def orthogonal_weights(n: int, out_features: int, in_features: int, gain: float, generator: torch.Generator) -> Tensor:
    """So many of them, drawn one by one: (n, out_features, in_features)."""
    return torch.stack([orthogonal_weight(out_features, in_features, gain, generator) for _ in range(n)])


def grouped_affine(x: Tensor, weight: Tensor, bias: Tensor, places: Tensor | None = None) -> Tensor:
    """Each place's rows times its member's matrix: (..., N, in), (G, out, in), (out,) or (G, out) -> (..., N, out).

    ``places`` (N,): the member of each place; None: the places are the members. One batched product over strided views:
    rows are neither copied nor gathered, weights at most once per place.
    """
    if places is not None:
        weight, bias = weight[places], bias if bias.dim() == 1 else bias[places]
    rows = x.reshape(-1, *x.shape[-2:]).transpose(0, 1)  # (N, M, in)
    y = torch.baddbmm(bias.unsqueeze(-2), rows, weight.mT)  # (N, M, out)
    return y.transpose(0, 1).reshape(*x.shape[:-1], weight.shape[-2])  # (..., N, out)
