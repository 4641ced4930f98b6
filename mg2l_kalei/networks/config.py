"""Settings of the networks that agents act and are judged with: the same for every learner."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from envs.core import setting

MEMORY_SCOPES = ("none", "episode", "trial")
INPUTS = ("action", "reward", "episode_start")

_CONVOLUTION = re.compile(r"([1-9]\d*)x([1-9]\d*)/([1-9]\d*)")


class Convolution(NamedTuple):
    """One layer; all but the channels in pixels."""

    channels: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class NetworkConfig:
    hidden: tuple[int, ...] = setting((128, 128), "widths of the hidden layers of actors and critics", low=1)
    activation: str = setting("relu", "of the hidden layers", choices=("relu", "gelu", "tanh"))
    layer_norm: bool = setting(False, "normalise each hidden layer before its activation")
    agent_id: bool = setting(True, "put the agent's one-hot number into the actor's input")
    task_gates: bool = setting(
        False, "factors of what each layer of the actor reads, by the agent and its task latent", is_late=True
    )
    memory: str = setting(
        "none",
        "how long a GRU after the first hidden layer, as wide as it, remembers: episode; trial: across the episodes of "
        "a trial; none: there is no GRU",
        choices=MEMORY_SCOPES,
    )
    inputs: tuple[str, ...] = setting(
        (),
        "what actors and critics see beside observations: each agent's action and reward in the step before, whether "
        "an episode starts",
        choices=INPUTS,
    )
    image: tuple[str, ...] = setting(
        ("16x3/1", "32x3/2", "32x3/2"),
        "where images are seen: the convolutions before the first layer, each CHANNELSxKERNEL/STRIDE; []: none, images "
        "are vectors; for 84x84, as DQN: [32x8/4,64x4/2,64x3/1]",
        is_late=True,
    )
    chunk_length: int = setting(10, "steps that a GRU's gradients go back through time; 0: the whole trial", low=0)

    def __post_init__(self) -> None:
        if self.is_recurrent and not self.hidden:
            raise ValueError(f"memory={self.memory} with hidden=[]: there is no layer for a GRU to stand after")
        if wrong := [layer for layer in self.image if not _CONVOLUTION.fullmatch(layer)]:
            raise ValueError(f"image={wrong[0]}: expected CHANNELSxKERNEL/STRIDE, whole numbers from 1, as in 32x3/2")

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """Those that images are seen with, first to last."""
        matches = [_CONVOLUTION.fullmatch(layer) for layer in self.image]
        return tuple(Convolution(*map(int, match.groups())) for match in matches if match)

    @property
    def is_recurrent(self) -> bool:
        return self.memory != "none"
