"""A ring of recent trials, from which contexts for task inference are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from envs.core import EnvSpec, setting
from mg2l_kalei.types import Contexts, State, Transition


@dataclass(frozen=True)
class ContextConfig:
    source: str = setting(
        "online",
        "what latents are acted on in training: the trial's own history, as at meta-test, or the task's context buffer",
        choices=("online", "replay"),
    )
    scope: str = setting(
        "trial", "what one context is drawn from: one trial, or all trials of its task", choices=("trial", "task")
    )
    capacity: int = setting(4096, "trials that are kept", low=2)
    batch: int = setting(64, "contexts per encoder update", low=4)
    length: int = setting(32, "transitions per context", low=1)
    n_updates: int = setting(6, "encoder updates per iteration", low=0)
    n_early_updates: int = setting(24, "the same in early iterations: actors can use a task once it is inferred", low=0)
    n_early_iterations: int = setting(40, "how many iterations are early", low=0)
    explore_rows: int = setting(4, "replay: rows of an exploration trial, which acts on a prior latent", low=1)
    explore_interval: int = setting(5, "replay: iterations between exploration trials", low=1)


class ContextBuffer:
    """Whole trials of T steps, the oldest overwritten first. Sampled contexts have tasks in equal shares.

    The steps of a context are drawn ``n_consecutive`` in a row; 1: each by itself.
    """

    def __init__(
        self, config: ContextConfig, spec: EnvSpec, n_steps: int, device: torch.device, *, n_consecutive: int = 1
    ) -> None:
        N, M = spec.n_agents, config.capacity
        self.config = config
        self._n_consecutive = min(n_consecutive, n_steps)
        action_shape = (N,) if spec.is_discrete else (N, spec.action_dim)
        self._trials = Transition(
            obs=torch.zeros(M, n_steps, N, spec.obs_dim, device=device),
            action=torch.zeros(M, n_steps, *action_shape, device=device, dtype=_action_dtype(spec)),
            reward=torch.zeros(M, n_steps, N, device=device),
            next_obs=torch.zeros(M, n_steps, N, spec.obs_dim, device=device),
        )
        self._task = torch.zeros(M, dtype=torch.int64, device=device)
        self._added = 0  # trials ever added

    @property
    def device(self) -> torch.device:
        return self._task.device

    def __len__(self) -> int:
        return min(self._added, self.config.capacity)

    def add(self, transition: Transition, task: Tensor) -> None:
        """Store the trials of all rows: (T, B, N, ...), task (B,)."""
        kept = slice(-self.config.capacity, None)  # no slot twice: which of two writes comes last is not defined
        slots = ((self._added + torch.arange(len(task), device=task.device)) % self.config.capacity)[kept]
        for stored, new in zip(self._trials, transition, strict=True):
            stored[slots] = new.transpose(0, 1)[kept]
        self._task[slots] = task[kept]
        self._added += len(task)

    def sample(self, generator: torch.Generator, tasks: Tensor | None = None) -> Contexts:
        """Contexts (K, R, N, ...) of ``tasks`` (R,), or of a balanced draw in which row r and row r + R/2 pair up."""
        K, is_paired = self.config.length, tasks is None
        tasks = self._balanced_tasks(generator) if tasks is None else tasks
        slots, first, count = self._trials_of(tasks)
        R = len(tasks)
        if self.config.scope == "task":
            n_runs = -(-K // self._n_consecutive)
            place = draw_below(count.expand(n_runs, R), generator).repeat_interleave(self._n_consecutive, dim=0)[:K]
        else:
            place = draw_below(count, generator)
            if is_paired:  # by another trial of the task, if there is one
                ahead = 1 + draw_below(count[: R // 2] - 1, generator)
                place[R // 2 :] = (place[: R // 2] + ahead) % count[: R // 2]
        trial, step = slots[first + place].expand(K, R), self._steps(K, R, generator)
        return Contexts(Transition(*(stored[trial, step] for stored in self._trials)), tasks)

    def _trials_of(self, tasks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Slots sorted by task; where those of each of ``tasks`` (R,) begin, and how many. ValueError where none."""
        sorted_tasks, slots = self._task[: len(self)].sort()
        first, after = torch.searchsorted(sorted_tasks, tasks), torch.searchsorted(sorted_tasks, tasks, right=True)
        if (first == after).any():
            lacking, capacity = int(tasks[first == after][0]), self.config.capacity
            raise ValueError(f"no trial of task {lacking} among the last {capacity}: raise context.capacity")
        return slots, first, after - first

    def _steps(self, K: int, R: int, generator: torch.Generator) -> Tensor:
        """Places in the trials: (K, R). Runs begin in different places if trials are long enough, but may overlap."""
        n, device = self._n_consecutive, self._task.device
        n_starts, n_runs = self._trials.reward.shape[1] - n + 1, -(-K // n)
        if n_runs <= n_starts:
            starts = torch.rand(n_starts, R, generator=generator, device=device).argsort(0)[:n_runs]
        else:
            starts = torch.randint(n_starts, (n_runs, R), generator=generator, device=device)
        return (starts.unsqueeze(1) + torch.arange(n, device=device).view(-1, 1)).flatten(0, 1)[:K]

    def _balanced_tasks(self, generator: torch.Generator) -> Tensor:
        """(R,): each half holds the same tasks, drawn as evenly as they divide it, of those that the buffer holds."""
        held = self._task[: len(self)].unique()
        return balanced_draw(held, self.config.batch // 2, generator).repeat(2)

    def state_dict(self) -> State:
        n = len(self)
        trials = {name: stored[:n] for name, stored in self._trials._asdict().items()}
        return {"trials": trials, "task": self._task[:n], "added": self._added}

    def load_state_dict(self, state: State) -> None:
        self._added = state["added"]
        for name, stored in self._trials._asdict().items():
            stored[: len(self)] = state["trials"][name]
        self._task[: len(self)] = state["task"]


def draw_below(count: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform integers in 0 ... count - 1 (0 where count is 0), of count's shape."""
    share = torch.rand(count.shape, generator=generator, device=count.device, dtype=torch.float64)
    return (share * count).long()


def balanced_draw(items: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """(n,) of items (m,) in random order, each as often as the others, or once more."""
    n_rounds = -(-n // len(items))
    rounds = [torch.randperm(len(items), generator=generator, device=items.device) for _ in range(n_rounds)]
    return items[torch.cat(rounds)[:n]]


def _action_dtype(spec: EnvSpec) -> torch.dtype:
    return torch.int64 if spec.is_discrete else torch.float32
