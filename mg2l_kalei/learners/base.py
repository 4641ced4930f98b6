"""The learner's interface: it owns actors, critics and their optimisers, and acts (see ``acting.collector.Policy``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from envs.core import EnvSpec
from mg2l_kalei.buffers.trials import TrialReplay
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.learners.optimiser import Optimiser
from mg2l_kalei.networks import NetworkConfig, Recall
from mg2l_kalei.processes import ALONE, Processes
from mg2l_kalei.sharing.base import ParameterSharing
from mg2l_kalei.sharing.figures import SharingFigure
from mg2l_kalei.types import ActionSample, Clock, Metrics, Rollout, State


class Setup(NamedTuple):
    """What a learner is built from, beside its own config."""

    network: NetworkConfig
    spec: EnvSpec  # of the environments
    encoder: TaskEncoder  # whose latents it will see
    make_sharing: Callable[[], ParameterSharing]  # the team's scheme, anew for each network
    generator: torch.Generator  # on the CPU, for initial weights
    processes: Processes = ALONE
    precision: str = "fp32"  # see ``RunConfig.precision``


class Experience(NamedTuple):
    """What there is to learn from."""

    fresh: Rollout  # made by this learner's policy, as it is now; off-policy, it may have been grouped anew since
    replay: TrialReplay | None  # trials kept for whoever learns from them again, the fresh ones too; None: nobody does
    encoder: TaskEncoder


class Learner(ABC):
    """Learns policies pi(a^i | o^i, z^i) from whole trials.

    Constructors are called as ``Learner(config, setup)`` with the learner's frozen config. They fill ``networks``, of
    which ``actor`` acts, and ``optimisers``, one for each network that is trained; what both hold is saved.
    """

    is_on_policy: ClassVar[bool] = True  # False: log-probabilities are not needed, and ``replays`` is what it asks for
    supports_memory: ClassVar[bool] = True  # whether ``network.memory`` may be other than none
    supports_images: ClassVar[bool] = False  # whether its networks have convolutions for them
    supports_task_gates: ClassVar[bool] = False  # whether its actors have them: see ``network.task_gates``
    needs_team: ClassVar[bool] = False  # whether it learns what all agents are paid together, and so refuses rivals
    replays: ClassVar[Sequence[str]] = ()  # fields of ``Step`` that are to be kept of past trials

    def __init__(self, config: Any, setup: Setup) -> None:
        self.config, self.network_config, self.processes = config, setup.network, setup.processes
        self.precision = setup.precision
        self.recall = Recall(setup.network, setup.spec)
        self.spec = self.recall.spec  # of what networks see
        self.networks: dict[str, nn.Module] = {}
        self.optimisers: dict[str, Optimiser] = {}
        # What it learned from, of replayed trials: the last, or the first that spoilt an update.
        self.drawn: tuple[Any, ...] | None = None

    @classmethod
    def problems(cls, config: Any, spec: EnvSpec) -> Iterable[str]:
        """Why this learner cannot learn in environments like these, a line each."""
        return ()

    @classmethod
    def wanted_for_parts(cls, config: Any) -> str:
        """The setting, ``key=value``, with which it would learn from parts of episodes; "": it does, as it is set."""
        return ""

    @classmethod
    def trains_encoder(cls, config: Any) -> bool:
        """Whether its loss of values trains the encoder, as it is set."""
        return False

    @property
    def actor(self) -> nn.Module:
        """The network that acts."""
        return self.networks["actor"]

    @abstractmethod
    def act(
        self,
        obs: Tensor,
        legal: Tensor | None,
        latent: Tensor,
        memory: Tensor | None,
        generator: torch.Generator,
        *,
        explore: Clock | None,
    ) -> ActionSample:
        """See ``acting.collector.Policy.act``."""

    @abstractmethod
    def update(self, experience: Experience, clock: Clock, generator: torch.Generator) -> Metrics:
        """Learn from experience; ``clock`` counts the steps of the fresh rollout too. Metrics under ``train/``."""

    def sampling(self, env_steps: int) -> Clock | None:
        """What ``explore`` has to be for actions to be sampled from the policy, as after so many steps of training.

        None where the policy has its best action and no other: off-policy, unless a learner says otherwise.
        """
        return Clock(0, env_steps, env_steps) if self.is_on_policy else None

    def initial_memory(self, n_rows: int) -> Tensor | None:
        """(B, N, hidden) before anything is remembered; None for feed-forward policies."""
        return self._nothing_remembered(n_rows, self.spec.n_agents)

    def _nothing_remembered(self, n_rows: int, n_networks: int) -> Tensor | None:
        """(B, n_networks, hidden) of zeros; None for feed-forward networks."""
        if not self.network_config.is_recurrent:
            return None
        device = next(self.actor.parameters()).device
        return torch.zeros(n_rows, n_networks, self.network_config.hidden[0], device=device)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """A block in which weights do not change, so that what is formed from them is formed once."""
        with ExitStack() as stack:
            for optimiser in self.optimisers.values():
                stack.enter_context(optimiser.sharing.frozen(optimiser.network))
            yield

    def cast(self) -> AbstractContextManager[Any]:
        """A block in which networks multiply matrices as ``precision`` says, for passes that are learned from."""
        if self.precision != "bf16":
            return nullcontext()
        return torch.autocast(next(self.actor.parameters()).device.type, torch.bfloat16)

    def anneal(self, clock: Clock) -> None:
        """Set all learning rates that are due."""
        for optimiser in self.optimisers.values():
            optimiser.anneal(clock)

    def after_update(self, clock: Clock, generator: torch.Generator) -> Metrics:
        """What sharing schemes do between updates, and what they log."""
        metrics: Metrics = {}
        for optimiser in self.optimisers.values():
            metrics |= optimiser.after_update(clock, generator)
        return metrics

    def sharings(self) -> list[ParameterSharing]:
        """The sharing schemes of its networks."""
        return [optimiser.sharing for optimiser in self.optimisers.values()]

    def figures(self) -> list[SharingFigure]:
        """What is worth looking at of how its networks' weights are shared."""
        return [figure for optimiser in self.optimisers.values() for figure in optimiser.figures()]

    def to(self, device: torch.device) -> Learner:
        """Move the networks; before the first update."""
        for network in self.networks.values():
            network.to(device)
        return self

    def weights(self) -> State:
        """All that acting needs: networks with their normalisers."""
        return {name: dict(network.state_dict()) for name, network in self.networks.items()}

    def load_weights(self, state: State) -> None:
        """Take networks out of ``weights``; optimisers stay as they are."""
        for name, network in self.networks.items():
            network.load_state_dict(state[name])
        for optimiser in self.optimisers.values():
            optimiser.sharing.on_loaded(optimiser.network)

    def state_dict(self) -> State:
        """What changes beside the weights: optimisers, and the state of sharing schemes."""
        return {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}

    def load_state_dict(self, state: State) -> None:
        """Restore what ``state_dict`` gave."""
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state[name])
