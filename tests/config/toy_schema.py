"""A small schema with two kinds on some axes, and what the tests do with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from envs.core import setting
from mg2l_kalei.config import ConfigError, RunConfig, Schema, load


@dataclass(frozen=True)
class SpreadConfig:
    n_agents: int = setting(3, "agents", low=1, high=9)
    range_: tuple[float, float] = setting((-1.0, 1.0), "of positions")

    def __post_init__(self) -> None:
        if self.range_[0] >= self.range_[1]:
            raise ValueError(f"range_={list(self.range_)}: expected the lower bound first")


@dataclass(frozen=True)
class EmptyConfig:
    pass


@dataclass(frozen=True)
class Mg2lConfig:
    latent_dim: int = setting(16, "width of the latent", low=1)
    pooling: Literal["attention", "mean"] = setting("attention", "of the context")
    lr: float = setting(3e-4, "learning rate", above=0.0)


@dataclass(frozen=True)
class MappoConfig:
    lr: float = setting(5e-4, "learning rate", above=0.0)
    actor_lr: float | None = setting(None, "of the actor", above=0.0)
    n_epochs: int = setting(10, "passes over a rollout", low=1)
    hidden: tuple[int, ...] = setting((64, 64), "layer widths", low=1)
    clip_value: bool = setting(True, "clip the value loss")
    note: str = setting("plain", "free text", extends=True)


@dataclass(frozen=True)
class QmixConfig:
    lr: float = setting(1e-3, "learning rate", above=0.0)
    tau: float = setting(0.01, "target step", above=0.0, high=1.0)


@dataclass(frozen=True)
class ContextConfig:
    size: int = setting(32, "transitions", low=1)


def qmix_wants_one_agent(config: RunConfig) -> Iterator[str]:
    if config.kinds["learner"] == "qmix" and config.env.n_agents > 1:
        yield f"learner.kind=qmix with env.n_agents={config.env.n_agents}: expected one agent"


SCHEMA = Schema(
    axes={
        "env": {"mpe-spread": (object, SpreadConfig()), "mpe-hunting": (object, SpreadConfig(n_agents=1))},
        "encoder": {"none": (object, EmptyConfig()), "mg2l": (object, Mg2lConfig())},
        "sharing": {"full": (object, EmptyConfig())},
        "learner": {"mappo": (object, MappoConfig()), "qmix": (object, QmixConfig())},
    },
    groups={"network": EmptyConfig(), "context": ContextConfig(), "replay": EmptyConfig()},
    checks=(qmix_wants_one_agent,),
)
RECIPE = "encoder: {kind: mg2l, latent_dim: 8}\nsharing: full\nlearner: {kind: mappo}\n"


def write(folder: Path, name: str, text: str) -> None:
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def resolve(folder: Path, *argv: str) -> RunConfig:
    return load(argv, SCHEMA, folder).config


def problems(folder: Path, *argv: str) -> list[str]:
    """What is wrong; each problem is one line, and nothing is written while finding out."""
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(ConfigError) as error:
        load(argv, SCHEMA, folder)
    assert sorted(folder.parent.rglob("*")) == before
    assert all("\n" not in line for line in error.value.problems)
    return error.value.problems
