"""From a configuration to the objects of a run; what can be chosen, and what cannot be combined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from envs import ENVS, make_family
from envs.core import TaskFamily
from mg2l_kalei.buffers.contexts import ContextConfig
from mg2l_kalei.config import RunConfig, Schema
from mg2l_kalei.encoders import ENCODERS
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.learners import LEARNERS
from mg2l_kalei.learners.base import Learner
from mg2l_kalei.seeding import numpy_generator, torch_generator
from mg2l_kalei.sharing import SHARINGS, ParameterSharing
from mg2l_kalei.types import State

CONFIG_DIR = Path(__file__).resolve().parents[2] / "config"


class System(NamedTuple):
    """What a run trains, and evaluation loads."""

    config: RunConfig
    device: torch.device
    family: TaskFamily
    encoder: TaskEncoder
    learner: Learner

    @property
    def trial_steps(self) -> int:
        """Environment steps of a training trial."""
        return self.config.trial_steps or self.family.spec.episode_steps

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps of one rollout: every row's team acts once in a step."""
        return self.trial_steps * self.config.n_rows

    def load_weights(self, state: State) -> None:
        """Networks, with their optimisers, out of a checkpoint. Raises ValueError where they are another system's."""
        try:
            self.encoder.load_state_dict(state["encoder"])
            self.learner.load_state_dict(state["learner"])
        except (KeyError, RuntimeError, ValueError) as error:
            first = " ".join(str(error).split("\n\t")[:2])
            raise ValueError(f"its networks are not those of these settings: {first}") from error


def family_of(config: RunConfig) -> TaskFamily:
    """The task family of a run: its tasks are a function of its settings and the seed."""
    return make_family(config.kinds["env"], config.env, numpy_generator(config.seed, "task_draw"))


def build(config: RunConfig, device: torch.device, agents: Sequence[str] = ()) -> System:
    """Family, encoder and learner of a run with fresh weights, on ``device``: a function of the config alone.

    ``agents``: the order of the agents in a run whose weights are to be loaded, which a family may give otherwise now.
    """
    family = family_of(config).ordered(agents)
    n_train = len(family.splits["train"])
    if any(task.split != "train" for task in family.tasks[:n_train]):
        raise ValueError(f"{family.name}: training tasks must come first, as encoders number them from 0")
    encoder_class, learner_class = ENCODERS[config.kinds["encoder"]][0], LEARNERS[config.kinds["learner"]][0]
    generator = torch_generator(config.seed, "init", "encoder")
    encoder = encoder_class(config.encoder, family.spec, family.features(), n_train, generator)
    context = config.context
    if encoder.learns and context.source == "replay" and context.capacity < n_train:
        raise ValueError(
            f"context.capacity={context.capacity} is less than a trial for each of {n_train} training tasks"
        )
    generator = torch_generator(config.seed, "init", "learner")
    make_sharing = partial(_make_sharing, config, generator, _total_env_steps(config, family, encoder))
    learner = learner_class(config.learner, family.spec, encoder, make_sharing, generator)
    return System(config, device, family, encoder.to(device), learner.to(device))


def _total_env_steps(config: RunConfig, family: TaskFamily, encoder: TaskEncoder) -> int:
    """Of a whole run, exploration included (see ``MetaTrainer``)."""
    context, n_trials = config.context, config.n_iters * config.n_rows
    if context.source == "replay" and encoder.learns:
        covering = -(-len(family.splits["train"]) // context.explore_rows)
        n_trials += (covering + (config.n_iters - 1) // context.explore_interval) * context.explore_rows
    return n_trials * (config.trial_steps or family.spec.episode_steps)


def _make_sharing(
    config: RunConfig, generator: torch.Generator, total_env_steps: int, n_members: int
) -> ParameterSharing:
    sharing_class = SHARINGS[config.kinds["sharing"]][0]
    return sharing_class(config.sharing, n_members, generator, total_env_steps=total_env_steps)


def choose_device(config: RunConfig) -> tuple[torch.device, str | None]:
    """The device to use, and a warning if it is not the one asked for."""
    wanted = f"cuda:{config.gpu_id}" if config.gpu_id is not None else config.device
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu"), None
    device = torch.device(wanted)
    n_gpus = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= n_gpus:
        return torch.device("cpu"), f"{wanted} was asked for and is not there ({n_gpus} GPUs found): using the CPU"
    return device, None


def _impossible(config: RunConfig) -> Iterable[str]:
    """Combinations that cannot work, a line each."""
    encoder, context = ENCODERS[config.kinds["encoder"]][0], config.context
    return encoder.problems(config.encoder, context_batch=context.batch, context_length=context.length)


SCHEMA = Schema(
    axes={"env": ENVS, "encoder": ENCODERS, "sharing": SHARINGS, "learner": LEARNERS},
    groups={"context": ContextConfig()},
    checks=(_impossible,),
)
