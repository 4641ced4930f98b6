"""Checks of what a family declares, and of the form of what it shows."""

from __future__ import annotations

import json
from collections.abc import Iterator

import torch
from torch import Tensor

from envs.check.play import N_ROWS, Bench, Record
from envs.core import SPLITS, StepResult, Task


def tasks_are_sound(bench: Bench) -> Iterator[str]:
    family = bench.family
    if not family.tasks:
        yield "there is no task"
        return
    if len({task.name for task in family.tasks}) < len(family.tasks):
        yield "two tasks have the same name"
    splits = sorted({task.split for task in family.tasks})
    if "train" not in splits or not set(splits) <= set(SPLITS):
        yield f"splits must be of {SPLITS}, train among them; they are {splits}"
    is_train = [task.split == "train" for task in family.tasks]
    if sorted(is_train, reverse=True) != is_train:
        yield "training tasks must come first, as encoders number them from 0"
    for task in family.tasks:
        yield from _params_are_plain(task)
    yield from _features_are_sound(family.tasks)


def _params_are_plain(task: Task) -> Iterator[str]:
    try:
        json.dumps(dict(task.params), allow_nan=False)
    except (TypeError, ValueError) as error:
        yield f"params of task {task.name!r} are not plain finite numbers: {error}"


def _features_are_sound(tasks: tuple[Task, ...]) -> Iterator[str]:
    widths = sorted({len(task.features) for task in tasks})
    if len(widths) > 1 or widths[0] == 0:
        yield f"features must have one width over all tasks, at least 1; widths are {widths}"
        return
    features = torch.tensor([task.features for task in tasks])
    inside = features[[task.split != "ood" for task in tasks]]
    if not features.isfinite().all():
        yield "features are not finite"
    if (inside.abs() > 1).any():
        yield f"features of train and test tasks must stay in [-1, 1]; they reach {inside.abs().max():g}"
    if len({task.features for task in tasks}) < len(tasks):
        yield "two tasks have the same features, so the oracle cannot tell them apart"


def spec_is_sound(bench: Bench) -> Iterator[str]:
    spec = bench.spec
    for name in ("obs_sizes", "action_sizes", "agent_types"):
        if len(getattr(spec, name)) not in (0, spec.n_agents):
            yield f"spec.{name} must be empty or have n_agents = {spec.n_agents} entries; it is {getattr(spec, name)}"
    for name, widest in (("obs_sizes", spec.obs_dim), ("action_sizes", spec.action_dim)):
        if not all(0 < size <= widest for size in getattr(spec, name)):
            yield f"spec.{name} must lie in 1 to {widest}; it is {getattr(spec, name)}"
    if len(set(spec.type_columns)) != len(spec.type_columns) or not set(spec.type_columns) <= set(range(spec.obs_dim)):
        yield f"spec.type_columns must be columns of obs, 0 to {spec.obs_dim - 1}, once each; it is {spec.type_columns}"
    if spec.type_columns and (spec.agent_types or spec.obs_images):
        yield "spec.type_columns says that types are drawn for each episode: no agent_types then, nor images"
    for name, images, size in (("obs", spec.obs_images, spec.obs_dim), ("state", spec.state_images, spec.state_dim)):
        if images is not None and images.size != size:
            yield f"spec.{name}_images must have {name}_dim = {size} numbers; {images} has {images.size}"
    if bench.make()[0].spec != spec:
        yield "the batch's spec is not the family's"


def records_are_well_formed(bench: Bench) -> Iterator[str]:
    for record in bench.play(bench.mixed):
        problems = list(_layout(record, bench)) or list(_contents(record, bench))
        yield from (f"{type(record).__name__}.{problem}" for problem in problems)
        if problems:
            return


def _layout(record: Record, bench: Bench) -> Iterator[str]:
    spec = bench.spec
    expected = {
        "obs": ((N_ROWS, spec.n_agents, spec.obs_dim), spec.obs_dtype),
        "state": ((N_ROWS, spec.state_dim), spec.state_dtype),
        "reward": ((N_ROWS, spec.n_agents), torch.float32),
        "terminated": ((N_ROWS,), torch.bool),
        "truncated": ((N_ROWS,), torch.bool),
        "legal": ((N_ROWS, spec.n_agents, spec.action_dim), torch.bool),
        "alive": ((N_ROWS, spec.n_agents), torch.bool),
    }
    for name, tensor in record._asdict().items():
        if name == "legal" and tensor is None:
            continue
        shape, dtype = expected[name]
        if (tuple(tensor.shape), tensor.dtype, tensor.device.type) != (shape, dtype, bench.device.type):
            got = f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device.type}"
            yield f"{name} must be {shape} {dtype} on {bench.device.type}; it is {got}"
        elif _is_expanded(tensor):
            yield f"{name} is an expanded view: its entries share memory"


def _is_expanded(tensor: Tensor) -> bool:
    return any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))


def _contents(record: Record, bench: Bench) -> Iterator[str]:
    for name, tensor in record._asdict().items():
        if tensor is not None and not tensor.isfinite().all():
            yield f"{name} is not finite"
    for agent, size in enumerate(bench.spec.obs_sizes):
        if record.obs[:, agent, size:].any():
            yield f"obs of agent {agent} is not zero beyond its true size {size}"
    if bench.spec.type_columns:
        types = record.obs[..., list(bench.spec.type_columns)][record.alive]
        if not ((types == types.round()) & (types >= 0)).all() or not (types.sum(-1) == 1).all():
            yield "obs of a living agent is not one-hot in spec.type_columns"
    if bench.spec.shared_reward and isinstance(record, StepResult):
        yield from _reward_is_shared(record.reward)
    if record.legal is not None:
        yield from _legal_is_sane(record.legal, record.alive, bench)


def _reward_is_shared(reward: Tensor) -> Iterator[str]:
    is_unequal = (reward != reward[:, :1]).any(dim=1)
    if is_unequal.any():
        paid = reward[is_unequal][0].tolist()
        yield f"reward is the team's by spec.shared_reward, but agents are paid {paid}"


def _legal_is_sane(legal: Tensor, alive: Tensor, bench: Bench) -> Iterator[str]:
    if not bench.spec.is_discrete:
        yield "legal must be None, since actions are continuous"
    if (alive & ~legal.any(-1)).any():
        yield "legal leaves a living agent without any action"
    for agent, size in enumerate(bench.spec.action_sizes):
        if legal[:, agent, size:].any():
            yield f"legal lets agent {agent} act beyond its {size} actions"


DECLARED = (tasks_are_sound, spec_is_sound, records_are_well_formed)
