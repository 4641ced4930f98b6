"""From a configuration to the objects of a run; what can be chosen, and what cannot be combined."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from envs import ENVS, make_family
from envs.core import EnvSpec, Refusal, TaskFamily
from mg2l_kalei.buffers.contexts import ContextConfig
from mg2l_kalei.buffers.trials import ReplayConfig, refuse_too_large
from mg2l_kalei.buffers.windows import jointly_observed
from mg2l_kalei.config import ConfigError, RunConfig, Schema
from mg2l_kalei.config.files import CONFIG_DIR as CONFIG_DIR
from mg2l_kalei.encoders import ENCODERS
from mg2l_kalei.encoders.base import EncoderUse, TaskEncoder
from mg2l_kalei.learners import LEARNERS
from mg2l_kalei.learners.base import Learner, Setup
from mg2l_kalei.networks import NetworkConfig
from mg2l_kalei.processes import ALONE, Processes
from mg2l_kalei.seeding import numpy_generator, torch_generator
from mg2l_kalei.sharing import SHARINGS, team_sharing
from mg2l_kalei.types import State, Step, Transition
from mg2l_kalei.world_models import WORLD_MODELS
from mg2l_kalei.world_models.base import Surroundings, WorldModel

FOLDERS: list[Path] = []  # of recipes and the like that plugins have registered


class System(NamedTuple):
    """What a run trains, and evaluation loads."""

    config: RunConfig  # of several processes: this one's part of it, see ``divided``
    device: torch.device
    family: TaskFamily
    encoder: TaskEncoder
    learner: Learner
    processes: Processes = ALONE
    world_model: WorldModel | None = None

    @property
    def spec(self) -> EnvSpec:
        """What learners, the replay and a world model are built for."""
        return self.family.spec if self.world_model is None else self.world_model.spec

    @property
    def trial_steps(self) -> int:
        """Environment steps of a training trial."""
        return _trial_steps(self.config, self.family, self.encoder)

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps of one rollout, of all processes: every row's team acts once in a step."""
        return self.trial_steps * self.config.n_rows * self.processes.size

    @property
    def replayed_fields(self) -> tuple[str, ...]:
        """Fields of ``Step`` that somebody will want of past trials; none: there is no replay."""
        wanted = {*self.learner.replays, *(name for sharing in self.learner.sharings() for name in sharing.replays)}
        if self.encoder.learns:
            wanted |= {*Transition._fields}
        if self.world_model is not None:
            wanted |= {*self.world_model.replays}
        return tuple(name for name in Step._fields if name in wanted)

    def weights(self, iteration: int, env_steps: int) -> State:
        """All that evaluation reads of a checkpoint, made after so many iterations and environment steps."""
        networks = {"encoder": dict(self.encoder.state_dict()), "learner": self.learner.weights()}
        if self.world_model is not None:
            networks["world_model"] = self.world_model.weights()
        return {"iteration": iteration, "env_steps": env_steps, **networks}

    def load_weights(self, state: State) -> None:
        """Networks out of ``weights``; optimisers stay as they are. ValueError where they are another system's."""
        try:
            self.encoder.load_state_dict(state["encoder"])
            self.learner.load_weights(state["learner"])
            if self.world_model is not None:
                self.world_model.load_weights(state["world_model"])
        except (KeyError, RuntimeError, ValueError) as error:
            first = " ".join(str(error).split("\n\t")[:2])
            raise Refusal(f"its networks are not those of these settings: {first}") from error


def family_of(config: RunConfig) -> TaskFamily:
    """The task family of a run: its tasks are a function of its settings and the seed."""
    return make_family(config.kinds["env"], config.env, numpy_generator(config.seed, "task_draw"))


def build(
    config: RunConfig, device: torch.device, agents: Sequence[str] = (), *, processes: Processes = ALONE
) -> System:
    """Family, encoder and learner of a run with fresh weights, on ``device``: a function of the config alone.

    ``agents``: the order of the agents in a run whose weights are to be loaded, which a family may give otherwise now.
    """
    # Of products and of convolutions, whose default it is: whoever trains or judges a run does so in its precision.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = config.precision == "tf32"
    family = family_of(config).ordered(agents)
    n_train = len(family.splits["train"])
    if any(task.split != "train" for task in family.tasks[:n_train]):
        raise Refusal(f"{family.name}: training tasks must come first, as encoders number them from 0")
    encoder_class, learner_class = ENCODERS[config.kinds["encoder"]][0], LEARNERS[config.kinds["learner"]][0]
    generator = torch_generator(config.seed, "init", "encoder")
    encoder = encoder_class(config.encoder, family.spec, family.features(), n_train, generator)
    config = divided(config, processes.size, infers=encoder.learns, replays=bool(learner_class.replays))
    capacity = config.replay.capacity
    if encoder.learns and config.context.source == "replay" and capacity < n_train:
        whole, of_each = capacity * processes.size, f" in each of {processes.size} processes" * (processes.size > 1)
        raise Refusal(f"replay.capacity={whole} is less than a trial for each of {n_train} training tasks{of_each}")
    if problems := list(problems_of_learner(config, family)):
        raise ConfigError([f"learner.kind={config.kinds['learner']}: {problem}" for problem in problems])
    encoder.processes = processes
    _refuse_images(config, family, encoder)
    _refuse_short_trials(config, family, encoder)
    _refuse_drawn_types(config, family.spec)
    model = _make_world_model(config, family, encoder, processes)
    spec = family.spec if model is None else model.spec
    generator = torch_generator(config.seed, "init", "learner")
    make_sharing = partial(team_sharing, config.kinds["sharing"], config.sharing, spec, generator)
    setup = Setup(config.network, spec, encoder, make_sharing, generator, processes, config.precision)
    system = System(config, device, family, encoder, learner_class(config.learner, setup), processes, model)
    if any(sharing.replays for sharing in system.learner.sharings()):
        looks = f"sharing.kind={config.kinds['sharing']} looks at"
        if processes.size > 1:
            raise Refusal(f"{looks} replayed trials, which are each process's own")
        if family.spec.obs_images and config.network.image:
            raise Refusal(f"{looks} observations as vectors, and {family.name} shows images: network.image=[]")
    refuse_too_large(config.replay, spec, system.trial_steps, system.replayed_fields)
    model = None if model is None else model.to(device)
    return system._replace(encoder=encoder.to(device), learner=system.learner.to(device), world_model=model)


def _make_world_model(
    config: RunConfig, family: TaskFamily, encoder: TaskEncoder, processes: Processes
) -> WorldModel | None:
    """The run's world model; None: it has none. Raises ConfigError where it cannot learn in this family."""
    model_class, kind = WORLD_MODELS[config.kinds["world_model"]][0], config.kinds["world_model"]
    if model_class is None:
        return None
    problems = list(model_class.problems(config.world_model, family.spec))
    if processes.size > 1:
        problems.append("it learns in one process alone")
    if encoder.is_read_at_episodes or encoder.acts_on_samples:
        problems.append("it begins in the midst of trials: expected encoder.read_at=step and encoder.sampled=false")
    if problems:
        raise ConfigError([f"world_model.kind={kind}: {problem}" for problem in problems])
    generator = torch_generator(config.seed, "init", "world_model")
    return model_class(config.world_model, Surroundings(jointly_observed(family.spec), encoder.global_dim, generator))


def problems_of_learner(config: RunConfig, family: TaskFamily) -> Iterator[str]:
    """Why the run's learner cannot learn in this family, a line each."""
    learner_class = LEARNERS[config.kinds["learner"]][0]
    yield from learner_class.problems(config.learner, family.spec)
    if learner_class.needs_team and family.has_rivals:
        yield f"agents of {family.name} are rivals, and it learns what all are paid together: expected mappo or matd3"


def _refuse_images(config: RunConfig, family: TaskFamily, encoder: TaskEncoder) -> None:
    """Raise Refusal where there are images, and networks that have no convolutions for them."""
    kinds, images = config.kinds, family.spec.obs_images or family.spec.state_images
    if images is None or not config.network.image:
        return
    blind = [f"encoder.kind={kinds['encoder']}"] if encoder.learns and family.spec.obs_images else []
    blind += [] if LEARNERS[kinds["learner"]][0].supports_images else [f"learner.kind={kinds['learner']}"]
    if blind:
        shape = f"{images.height}x{images.width}x{images.channels}"
        raise Refusal(
            f"{blind[0]} has no convolutions, and {family.name} shows images of {shape}: choose another, such "
            "as --algo=mappo, or network.image=[], which makes vectors of images"
        )


def _refuse_drawn_types(config: RunConfig, spec: EnvSpec) -> None:
    """Raise ConfigError where members are types that are drawn for each episode, and something is in the way."""
    if not spec.type_columns or getattr(config.sharing, "members", "agents") != "types":
        return
    problems = []
    if config.network.memory == "trial":
        problems.append("network.memory=trial goes across episodes: expected episode or none")
    if config.network.task_gates:
        problems.append("network.task_gates=true: gates are of agents")
    if WORLD_MODELS[config.kinds["world_model"]][0] is not None:
        problems.append("a world model imagines types that are none")
    if not spec.is_discrete:
        problems.append("actions are continuous here, whose deviations are of agents")
    if problems:
        raise ConfigError([f"sharing.members=types, drawn for each episode: {problem}" for problem in problems])


def _trial_steps(config: RunConfig, family: TaskFamily, encoder: TaskEncoder) -> int:
    n_episodes = 2 if encoder.is_read_at_episodes else 1  # the first of which is on the prior
    return config.trial_steps or n_episodes * family.spec.episode_steps


def _refuse_short_trials(config: RunConfig, family: TaskFamily, encoder: TaskEncoder) -> None:
    """Raise Refusal where the one belief that a trial reads is that before it, or contexts that are trials are cut."""
    n_steps, trial_steps = family.spec.episode_steps, _trial_steps(config, family, encoder)
    if encoder.needs_whole_trials and trial_steps > config.context.length:
        raise Refusal(
            f"context.length={config.context.length}: the encoder takes contexts for trials, which have "
            f"{trial_steps} steps here; expected at least as many"
        )
    if encoder.is_read_at_episodes and family.spec.ends_on_time and 0 < config.trial_steps <= n_steps:
        raise Refusal(
            f"trial_steps={config.trial_steps} is one episode, and beliefs are read as one begins, the first on the "
            f"prior: nothing would be inferred; expected 0 or more than {n_steps}"
        )


def divided(config: RunConfig, size: int, *, infers: bool, replays: bool = False) -> RunConfig:
    """What each of ``size`` processes does of a run: rows and contexts are divided, and what is replayed.

    ``infers``: whether the encoder learns, and so looks at contexts; ``replays``: whether the learner looks at past
    trials. Raises Refusal, with a line for each setting that cannot be.
    """
    if size == 1:
        return config
    context, replay = config.context, config.replay
    parts = {"n_rows": (config.n_rows, size)}
    if infers:
        parts["context.batch"] = context.batch, 2 * size  # contexts are drawn in pairs
    if infers or replays:
        parts["replay.capacity"] = replay.capacity, size
    if infers and context.source == "replay":
        parts["context.explore_rows"] = context.explore_rows, size
    if wrong := {key: each for key, each in parts.items() if each[0] % each[1]}:
        rules = (f"{key}={n} with {size} processes: expected a multiple of {unit}" for key, (n, unit) in wrong.items())
        raise Refusal("\n".join(rules))
    batch, explore_rows = context.batch // size, context.explore_rows // size
    return dataclasses.replace(
        config,
        n_rows=config.n_rows // size,
        context=dataclasses.replace(context, batch=batch, explore_rows=explore_rows),
        replay=dataclasses.replace(replay, capacity=replay.capacity // size, max_gib=replay.max_gib / size),
    )


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
    learner = LEARNERS[config.kinds["learner"]][0]
    if context.source == "replay" and not learner.is_on_policy:
        yield (
            f"context.source=replay with learner.kind={config.kinds['learner']}: what it replays would be taken for "
            "exploration; expected context.source=online, from which latents of past trials are inferred anew"
        )
    if config.network.is_recurrent and not learner.supports_memory:
        yield f"network.memory={config.network.memory}: learner.kind={config.kinds['learner']} has none"
    if config.network.task_gates and not learner.supports_task_gates:
        yield f"network.task_gates=true: actors of learner.kind={config.kinds['learner']} have no gates"
    if config.network.is_recurrent and config.precision == "bf16":
        yield f"precision=bf16 with network.memory={config.network.memory}: a GRU needs fp32 or tf32"
    if WORLD_MODELS[config.kinds["world_model"]][0] is not None:
        yield from _impossible_to_imagine(config)
    by_values, has_real = learner.trains_encoder(config.learner), getattr(config.world_model, "real_rollouts", True)
    if by_values and not has_real and not learner.is_on_policy:  # on-policy it is so by default
        yield "learner.trains_encoder=true with world_model.real_rollouts=false: latents of imagined trials are given"
    yield from encoder.problems(config.encoder, EncoderUse(context, by_values and has_real))


def _impossible_to_imagine(config: RunConfig) -> Iterable[str]:
    """What cannot be combined with a world model, a line each."""
    kind = f"world_model.kind={config.kinds['world_model']}"
    if config.network.is_recurrent:
        yield f"{kind} begins in the midst of trials, where network.memory={config.network.memory} remembers nothing"
    elif config.network.inputs:
        yield f"{kind} learns from the midst of trials, whose first step recalls nothing: expected network.inputs=[]"
    elif wanted := LEARNERS[config.kinds["learner"]][0].wanted_for_parts(config.learner):
        yield f"{kind} imagines parts of an episode: expected learner.{wanted}"
    if config.context.source == "replay":
        yield f"{kind} goes on with beliefs of the trial's own history; expected context.source=online"


SCHEMA = Schema(
    axes={"env": ENVS, "encoder": ENCODERS, "sharing": SHARINGS, "learner": LEARNERS, "world_model": WORLD_MODELS},
    groups={"network": NetworkConfig(), "context": ContextConfig(), "replay": ReplayConfig()},
    checks=(_impossible,),
    folders=FOLDERS,
)
