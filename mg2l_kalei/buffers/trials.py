"""The one replay: whole trials in a ring, the oldest overwritten first. Samplers over it know what they draw."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from envs.core import EnvSpec, Refusal, setting
from mg2l_kalei.types import Rollout, Step, TaskLatent, Transition

GIB = 2**30


@dataclass(frozen=True)
class ReplayConfig:
    capacity: int = setting(4096, "trials that are kept for what learns from them again", low=2)
    max_gib: float = setting(
        8.0, "memory that they may take [GiB]: more is refused before a run begins", above=0, extends=True
    )


class Layout(NamedTuple):
    """Shape and type of one field of one trial."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def layouts(spec: EnvSpec, n_steps: int, fields: Collection[str]) -> dict[str, Layout]:
    """Of the ``fields`` of ``Step`` that a replay is to keep, those that a trial of ``n_steps`` in ``spec`` has."""
    T, N = n_steps, spec.n_agents
    legal = Layout((T, N, spec.action_dim), torch.bool)
    known = {
        "obs": Layout((T, N, spec.obs_dim), spec.obs_dtype),
        "next_obs": Layout((T, N, spec.obs_dim), spec.obs_dtype),
        "state": Layout((T, spec.state_dim), spec.state_dtype),
        "next_state": Layout((T, spec.state_dim), spec.state_dtype),
        "action": Layout((T, N), torch.int64) if spec.is_discrete else Layout((T, N, spec.action_dim), torch.float32),
        "legal": legal,
        "next_legal": legal,
        "reward": Layout((T, N), torch.float32),
        "terminated": Layout((T,), torch.bool),
        "truncated": Layout((T,), torch.bool),
        "episode_start": Layout((T,), torch.bool),
        "alive": Layout((T, N), torch.bool),
        "next_alive": Layout((T, N), torch.bool),
    }
    kept = [name for name in Step._fields if name in fields]
    return {name: known[name] for name in kept if spec.is_discrete or name not in ("legal", "next_legal")}


class TrialReplay:
    """The last ``capacity`` trials of T steps, of which the named fields of ``Step`` are kept.

    Memory is asked for at once; on a CPU it is taken up as trials come. Steps without an action mask count as all
    legal.
    """

    def __init__(
        self, config: ReplayConfig, spec: EnvSpec, n_steps: int, fields: Collection[str], device: torch.device
    ) -> None:
        self.capacity, self.n_steps = config.capacity, n_steps
        self.layouts = layouts(spec, n_steps, fields)
        self._trials = {
            name: torch.empty(self.capacity, *layout.shape, dtype=layout.dtype, device=device)
            for name, layout in self.layouts.items()
        }
        self.task = torch.zeros(self.capacity, dtype=torch.int64, device=device)
        self.n_added = 0  # trials ever added

    @property
    def device(self) -> torch.device:
        return self.task.device

    def __len__(self) -> int:
        return min(self.n_added, self.capacity)

    def add(self, steps: Step, task: Tensor) -> None:
        """Store the trials of all rows: (T, B, ...), task (B,)."""
        kept = slice(-self.capacity, None)  # no slot twice: which of two writes comes last is not defined
        slots = self._slots(self.n_added, len(task))[kept]
        for name, stored in self._trials.items():
            new = getattr(steps, name)
            stored[slots] = True if new is None else new.transpose(0, 1)[kept]
        self.task[slots] = task[kept]
        self.n_added += len(task)

    def steps(self, trial: Tensor, step: Tensor) -> Mapping[str, Tensor]:
        """The fields kept, of steps (*) in trials (*), broadcast together: (*, ...) each."""
        return {name: stored[trial, step] for name, stored in self._trials.items()}

    def trials(self, trial: Tensor) -> Mapping[str, Tensor]:
        """The fields kept, of all steps of trials (B,): (T, B, ...) each."""
        return {name: stored[trial].transpose(0, 1) for name, stored in self._trials.items()}

    def told(self, trial: Tensor) -> TaskLatent | None:
        """Latents (T + 1, B, ...) kept of trials (B,); None: whoever asks infers them from the trials."""
        return None

    def transitions(self, trial: Tensor, step: Tensor) -> Transition:
        """What agents lived through in ``step`` (*) of ``trial`` (*): (*, N, ...)."""
        return Transition(*(self._trials[name][trial, step] for name in Transition._fields))

    def since(self, first: int) -> tuple[int, dict[str, Tensor]]:
        """Trials from number ``first`` on that are still held, and the first one's number: fields (n, T, ...)."""
        first = max(first, self.n_added - self.capacity)
        slots = self._slots(first, self.n_added - first)
        return first, {"task": self.task[slots], **{name: stored[slots] for name, stored in self._trials.items()}}

    def restore(self, first: int, trials: Mapping[str, Tensor]) -> None:
        """Take back what ``since`` gave: trials from number ``first`` on. Raises ValueError where fields differ."""
        own = {"task": self.task, **self._trials}
        if trials.keys() != own.keys() or any(trials[name].shape[1:] != own[name].shape[1:] for name in own):
            raise ValueError(f"stored trials have {_described(trials)}; expected {_described(own)}")
        n_trials = len(trials["task"])
        kept = slice(-self.capacity, None)
        slots = self._slots(first, n_trials)[kept]
        for name, stored in own.items():
            stored[slots] = trials[name][kept].to(stored.device)
        self.n_added = first + n_trials

    def newest(self, n: int) -> Tensor:
        """Where the ``n`` trials added last are, the latest at the end: (n,)."""
        return self._slots(self.n_added - n, n)

    def _slots(self, first: int, n: int) -> Tensor:
        return (first + torch.arange(n, device=self.task.device)) % self.capacity


class ToldTrials(TrialReplay):
    """Of rollouts that begin in the midst of trials: their latents are kept too, since more than they told them.

    Rollouts are taken in, ``capacity`` rows at most.
    """

    latents: TaskLatent | None = None  # (T + 1, n, ...)   of the rows held

    def take_in(self, rollout: Rollout) -> None:
        assert rollout.told is not None and self.n_added + len(rollout.task) <= self.capacity
        self.add(rollout.steps, rollout.task)
        known = [rollout.told] if self.latents is None else [self.latents, rollout.told]
        self.latents = TaskLatent._make(torch.cat(parts, dim=1) for parts in zip(*known, strict=True))

    def told(self, trial: Tensor) -> TaskLatent | None:
        assert self.latents is not None
        return TaskLatent._make(latent[:, trial] for latent in self.latents)


def _described(fields: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {tuple(tensor.shape[1:])}" for name, tensor in sorted(fields.items()))


def trial_size(spec: EnvSpec, n_steps: int, fields: Collection[str] = Step._fields) -> float:
    """What a trial of ``n_steps`` takes [GiB]."""
    return sum(layout.n_bytes for layout in layouts(spec, n_steps, fields).values()) / GIB


def replay_size(config: ReplayConfig, spec: EnvSpec, n_steps: int, fields: Collection[str]) -> float:
    """What a full replay takes [GiB]."""
    return config.capacity * trial_size(spec, n_steps, fields)


def refuse_too_large(config: ReplayConfig, spec: EnvSpec, n_steps: int, fields: Collection[str]) -> None:
    """Raise Refusal, before anything is allocated, where a replay would take more than it may."""
    size = replay_size(config, spec, n_steps, fields)
    if size > config.max_gib:
        fits = int(config.capacity * config.max_gib / size)
        way_out = f"replay.capacity={fits} fits" if fits > 1 else "not even two trials fit"
        raise Refusal(
            f"replay.capacity={config.capacity} trials of {n_steps} steps take {size:.3g} GiB, more than "
            f"replay.max_gib={config.max_gib:g}: {way_out}"
        )
