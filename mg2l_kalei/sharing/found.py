"""Schemes whose members may be groups that are found out: the part that all of them have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from envs.core import EnvSpec
from mg2l_kalei.buffers.trials import TrialReplay
from mg2l_kalei.sharing.base import ParameterSharing, SharingConfig
from mg2l_kalei.sharing.figures import PointFigure, SharingFigure
from mg2l_kalei.sharing.grouping import FIELDS, Groups, find_groups, matched
from mg2l_kalei.types import Clock, State


class FoundGroups(ParameterSharing):
    """Before the first update, and each ``refit_interval``, places are given to the groups that agents are found in.

    There are as many members as there may be groups. Until they are found, agents take turns; weights are kept by the
    groups that hold most of the agents they were learned with, and one that is split off begins as its parent's copy.
    The config is a ``GroupingConfig`` with ``members``.
    """

    def __init__(self, config: SharingConfig, members: Sequence[int], generator: torch.Generator) -> None:
        super().__init__(config, members, generator)
        self.finds = config.members == "groups" and self.n_places > 1
        self.replays = FIELDS if self.finds else ()
        self.last_fit = 0  # environment steps made by then
        self.latents: Tensor | None = None  # (N, latent_dim) of agents, when last looked at
        self.found: tuple[int, ...] = ()
        self.told: dict[str, float] = {}  # of the last fit

    @classmethod
    def members_of(cls, config: Any, spec: EnvSpec) -> Sequence[int]:
        if config.members != "groups":
            return super().members_of(config, spec)
        n_members = min(config.n_groups or config.max_groups, spec.n_agents)
        return [agent % n_members for agent in range(spec.n_agents)]

    @property
    def places(self) -> Tensor | None:
        return torch.tensor(self.members) if self.finds else super().places

    @property
    def groups(self) -> Sequence[int] | None:
        return self.found or None

    def needs_fit(self, replay: TrialReplay | None, clock: Clock) -> bool:
        if not self.finds or replay is None or len(replay) == 0:
            return False
        if not self.found:
            return True
        interval = self.config.refit_interval  # not in the last one: what is found then would not be trained
        is_last = clock.env_steps >= clock.total_env_steps - interval
        return interval > 0 and not is_last and clock.env_steps >= self.last_fit + interval

    def on_loaded(self, network: nn.Module) -> None:
        if self.finds and (layers := list(_with_places(network))):
            places = tuple(layers[0].tolist())
            self.found = () if places == self.members else places  # as all begin, before any fit

    def find(self, replay: TrialReplay, spec: EnvSpec, generator: torch.Generator) -> Groups:
        return find_groups(replay, spec, self.config, generator)

    def fit(self, network: nn.Module, found: Groups, clock: Clock, adam: torch.optim.Optimizer | None = None) -> None:
        new = matched(found.of_agents, self.found, self.n_members) if self.found else found.of_agents
        n_moved = sum(a != b for a, b in zip(new, self.found or new, strict=True))
        _copy_members(network, adam, split_off(new, self.found))
        self.last_fit, self.latents, self.found = clock.env_steps, found.latents, new
        for places in _with_places(network):
            places.copy_(torch.tensor(new))
        self.told = {
            "sharing/n_groups": float(len(set(new))),
            "sharing/silhouette": found.silhouette,
            "sharing/regrouped_agents": float(n_moved),
        }

    def figures(self, network: nn.Module) -> Sequence[SharingFigure]:
        if self.latents is None:
            return ()
        return [PointFigure("groups", "Agents by what comes of their actions", self.latents, self.found)]

    def state_dict(self) -> State:
        if not self.finds:
            return {}
        return {
            "last_fit": self.last_fit,
            "found": list(self.found),
            "told": dict(self.told),
            **({} if self.latents is None else {"latents": self.latents.clone()}),
        }

    def load_state_dict(self, state: State) -> None:
        if not self.finds:
            return
        self.last_fit, self.latents = state["last_fit"], state.get("latents")
        self.found, self.told = tuple(state["found"]), dict(state["told"])


def _with_places(network: nn.Module) -> Iterator[Tensor]:
    """The places of each layer and vector."""
    for module in network.modules():
        if isinstance(places := getattr(module, "places", None), Tensor):
            yield places


def split_off(new: Sequence[int], old: Sequence[int]) -> dict[int, int]:
    """Groups of agents (N,) in which none of them was before, each with the old one that most of them were in."""
    before = {group: [o for n, o in zip(new, old, strict=True) if n == group] for group in set(new) if old}
    return {
        group: max(sorted(set(parents)), key=parents.count) for group, parents in before.items() if group not in parents
    }


@torch.no_grad()
def _copy_members(network: nn.Module, adam: torch.optim.Optimizer | None, parents: dict[int, int]) -> None:
    """What members' parents had, weights and what Adam remembers of them, becomes theirs too, all at once."""
    if not parents:
        return
    for module in network.modules():
        if not isinstance(getattr(module, "places", None), Tensor):
            continue
        for name in getattr(module, "of_members", ()):
            parameter = module.get_parameter(name)
            moments = {} if adam is None else adam.state.get(parameter, {})
            for x in (parameter, *moments.values()):
                if isinstance(x, Tensor) and x.shape == parameter.shape:
                    x[list(parents)] = x[list(parents.values())]
