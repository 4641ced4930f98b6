"""What every learner owes in a step of any of its networks, once: sharing's term, clipping, decay and reduction."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from mg2l_kalei.processes import ALONE, Processes
from mg2l_kalei.sharing.base import ParameterSharing
from mg2l_kalei.sharing.figures import SharingFigure
from mg2l_kalei.types import Clock, Metrics, State

DECAYS = ("linear", "none")
ACTOR = "actor"


class Optimiser:
    """Adam on one network, built by ``sharing``, and on ``others``, parameters that its loss trains too.

    ``name`` is what it is called in metrics; ``others_lr`` is the rate of ``others``, ``lr`` where it is None. Rates,
    those that a scheme's parameter groups have of their own too, fall to 0 over the run where ``decay`` is linear.
    Gradients are averaged over processes, then clipped to ``max_grad_norm``.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        sharing: ParameterSharing,
        *,
        lr: float,
        max_grad_norm: float,
        decay: str = "none",
        eps: float = 1e-5,
        others: Iterable[nn.Parameter] = (),
        others_lr: float | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.name, self.network, self.sharing = name, network, sharing
        self.max_grad_norm, self.decay, self.processes = max_grad_norm, decay, processes
        groups: list[dict[str, Any]] = sharing.parameter_groups(network)
        self.adam = torch.optim.Adam(groups, lr=lr, eps=eps, fused=True)
        if others := list(others):
            self.adam.add_param_group({"params": others, "lr": lr if others_lr is None else others_lr})
        self.rates = [float(group["lr"]) for group in self.adam.param_groups]  # ``lr``, or the group's own

    def anneal(self, clock: Clock) -> None:
        """Set the learning rates that are due."""
        left = 1.0
        if self.decay == "linear" and math.isfinite(clock.total_env_steps):  # a last update of rate 0 would be wasted
            left = max(0.0, 1 - clock.env_steps / (1.02 * clock.total_env_steps))
        for group, rate in zip(self.adam.param_groups, self.rates, strict=True):
            group["lr"] = rate * left

    def step(self, loss: Tensor, *, main_loss: Tensor | None = None, gradient: Tensor | None = None) -> Metrics:
        """One step on ``loss``, and on sharing's term relative to ``main_loss`` (None: there is none).

        ``gradient``: of the loss, where it is no scalar. Gradients that others left behind do not count. Returns the
        gradient's norm before clipping, as ``train/<name>_grad_norm``, and what sharing has to say.
        """
        metrics: Metrics = {}
        if main_loss is not None:
            term, metrics = self.sharing.loss(self.network, self.processes.mean(main_loss.detach()))
            loss = loss + term
        self.adam.zero_grad(set_to_none=True)
        loss.backward(gradient)
        parameters = [parameter for group in self.adam.param_groups for parameter in group["params"]]
        self.processes.mean_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
        self.adam.step()
        return {f"train/{self.name}_grad_norm": norm.detach(), **self._named(metrics)}

    def after_update(self, clock: Clock, generator: torch.Generator) -> Metrics:
        """What sharing does between updates, such as resets, and what it logs."""
        metrics = self.sharing.on_env_steps(self.network, self.adam, clock, generator)
        return self._named(metrics | self.sharing.metrics(self.network))

    def figures(self) -> list[SharingFigure]:
        """What is worth looking at of how its network's weights are shared."""
        figures = self.sharing.figures(self.network)
        return [f if self.name == ACTOR else f._replace(name=f"{self.name}-{f.name}") for f in figures]

    def _named(self, metrics: Metrics) -> Metrics:
        """Sharing's metrics by the network's name too, but for the actor's, the usual one."""
        if self.name == ACTOR:
            return metrics
        return {f"sharing/{self.name}_{name.removeprefix('sharing/')}": value for name, value in metrics.items()}

    def state_dict(self) -> State:
        return {"adam": self.adam.state_dict(), "sharing": self.sharing.state_dict()}

    def load_state_dict(self, state: State) -> None:
        self.adam.load_state_dict(state["adam"])
        self.sharing.load_state_dict(state["sharing"])


def back_through(z: Tensor, gradient: Tensor | None, cost: Tensor) -> tuple[Tensor, Tensor | None]:
    """Loss and gradient of a step on what ``z`` comes from: of losses with this gradient in z, and of cost ()."""
    if gradient is None or not cost.requires_grad:
        return z, gradient
    return (z * gradient).sum() + cost, None
