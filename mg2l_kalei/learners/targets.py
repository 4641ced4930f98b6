"""Target networks: copies that bootstrapped values come from, and that follow what is learned."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import nn

from mg2l_kalei.types import State


class Targets:
    """Copies of networks, by their names, which never have gradients.

    ``update``: from 1 on, the number of updates between hard copies of all parameters; below 1, the share of the way
    that they go at each update. Masks' thresholds are parameters as others are. Buffers, such as who shares with whom,
    are the networks' own at any time.
    """

    def __init__(self, networks: Mapping[str, nn.Module], update: float) -> None:
        self.networks, self.update = networks, update
        self.copies = {name: deepcopy(network).requires_grad_(False) for name, network in networks.items()}
        self.n_updates = 0

    def __getitem__(self, name: str) -> nn.Module:
        return self.copies[name]

    @torch.no_grad()
    def follow(self) -> None:
        """After each update."""
        self.n_updates += 1
        if self.update >= 1:
            if self.n_updates % round(self.update) == 0:
                self.catch_up()
            return
        for name, network in self.networks.items():
            for copied, own in zip(self.copies[name].parameters(), network.parameters(), strict=True):
                copied.lerp_(own, self.update)

    @torch.no_grad()
    def catch_up(self) -> None:
        """Be what the networks are."""
        for name, network in self.networks.items():
            self.copies[name].load_state_dict(network.state_dict())

    @torch.no_grad()
    def take_buffers(self) -> None:
        """Before updates: networks may have been regrouped since; then all is copied, as groups have new weights."""
        for name, network in self.networks.items():
            buffers = dict(self.copies[name].named_buffers())
            own = dict(network.named_buffers())
            if any(key.endswith("places") and not torch.equal(buffers[key], own[key]) for key in own):
                self.copies[name].load_state_dict(network.state_dict())
            for key, copied in buffers.items():
                copied.copy_(own[key])

    def to(self, device: torch.device) -> None:
        for copied in self.copies.values():
            copied.to(device)

    def state_dict(self) -> State:
        weights = {name: dict(copied.state_dict()) for name, copied in self.copies.items()}
        return {"n_updates": self.n_updates, "weights": weights}

    def load_state_dict(self, state: State) -> None:
        self.n_updates = state["n_updates"]
        for name, copied in self.copies.items():
            copied.load_state_dict(state["weights"][name])
