"""Contexts for task inference, drawn from replayed trials."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from envs.core import setting
from mg2l_kalei.buffers.trials import TrialReplay
from mg2l_kalei.types import Contexts


@dataclass(frozen=True)
class ContextConfig:
    source: str = setting(
        "online",
        "what latents are acted on in training: the trial's own history, as at meta-test, or replayed trials of it",
        choices=("online", "replay"),
    )
    scope: str = setting(
        "trial", "what one context is drawn from: one trial, or all trials of its task", choices=("trial", "task")
    )
    batch: int = setting(64, "contexts per encoder update", low=4)
    length: int = setting(32, "transitions per context", low=1)
    order: str = setting(
        "any",
        "of transitions in a context: any steps of a trial; trial: a stretch of it, as lived through, and the whole "
        "trial where it is not longer than length",
        choices=("any", "trial"),
        is_late=True,
    )
    n_updates: int = setting(6, "encoder updates per iteration", low=0)
    n_early_updates: int = setting(24, "the same in early iterations: actors can use a task once it is inferred", low=0)
    n_early_iterations: int = setting(40, "how many iterations are early", low=0)
    explore_rows: int = setting(4, "replay: rows of an exploration trial, which acts on a prior latent", low=1)
    explore_interval: int = setting(5, "replay: iterations between exploration trials", low=1)


class ReplayTooSmall(RuntimeError):
    """The replay holds no trial of a task that a context is wanted of."""


class ContextSampler:
    """Draws contexts from a replay, of tasks in equal shares.

    The steps of a context are drawn ``n_consecutive`` in a row; 1: each by itself.
    """

    def __init__(self, config: ContextConfig, replay: TrialReplay, *, n_consecutive: int = 1) -> None:
        if config.order == "trial":
            n_consecutive = min(config.length, replay.n_steps)
            config = dataclasses.replace(config, length=n_consecutive)
        self.config, self.replay = config, replay
        self._n_consecutive = min(n_consecutive, replay.n_steps)

    def sample(self, generator: torch.Generator, tasks: Tensor | None = None, *, without_newest: int = 0) -> Contexts:
        """Contexts (K, R, N, ...) of ``tasks`` (R,), or of a balanced draw in which row r and row r + R/2 pair up."""
        K, is_paired = self.config.length, tasks is None
        tasks = self._balanced_tasks(generator) if tasks is None else tasks
        slots, first, count = self._trials_of(tasks, without_newest)
        if not is_paired and (count == 0).any():
            lacking, capacity = int(tasks[count == 0][0]), self.replay.capacity
            raise ReplayTooSmall(f"no trial of task {lacking} among the last {capacity}: raise replay.capacity")
        R = len(tasks)
        if self.config.scope == "task":
            n_runs = -(-K // self._n_consecutive)
            place = draw_below(count.expand(n_runs, R), generator).repeat_interleave(self._n_consecutive, dim=0)[:K]
        else:
            place = draw_below(count, generator)
            if is_paired:  # by another trial of the task, if there is one
                ahead = 1 + draw_below(count[: R // 2] - 1, generator)
                place[R // 2 :] = (place[: R // 2] + ahead) % count[: R // 2]
        return self._drawn(slots[first + place].expand(K, R), tasks, generator)

    def unseen_and_stored(self, n_new: int, generator: torch.Generator) -> tuple[Contexts, Contexts] | None:
        """A context of each of the ``n_new`` trials added last, and contexts of the trials before them.

        The latter of every task that these hold, in equal shares. None: fewer than two are new, or all are.
        """
        before = self._held(n_new)
        if n_new < 2 or not len(before):
            return None
        newest, tasks = self.replay.newest(n_new), self.replay.task[before].unique()
        unseen = self._drawn(newest.expand(self.config.length, n_new), self.replay.task[newest], generator)
        tasks = tasks.repeat(-(-self.config.batch // len(tasks)))
        return unseen, self.sample(generator, tasks, without_newest=n_new)

    def _drawn(self, trial: Tensor, tasks: Tensor, generator: torch.Generator) -> Contexts:
        """Steps of these trials (K, R), by chance."""
        K, R = trial.shape
        step = self._steps(K, R, generator)
        transition = self.replay.transitions(trial, step)
        return Contexts(transition._replace(episode_start=self._starts(transition.episode_start, trial, step)), tasks)

    def _starts(self, episode_start: Tensor, trial: Tensor, step: Tensor) -> Tensor:
        """Where the step before is not the context's own step before: (K, R) bool."""
        starts = torch.ones_like(episode_start)
        follows = (step[1:] == step[:-1] + 1) & (trial[1:] == trial[:-1])
        starts[1:] = episode_start[1:] | ~follows
        return starts

    def _held(self, without_newest: int) -> Tensor:
        """Where trials are, but for so many added last."""
        if not without_newest:
            return torch.arange(len(self.replay), device=self.replay.device)
        return self.replay.newest(len(self.replay))[: max(0, len(self.replay) - without_newest)]

    def _trials_of(self, tasks: Tensor, without_newest: int) -> tuple[Tensor, Tensor, Tensor]:
        """Slots sorted by task; where those of each of ``tasks`` (R,) begin, and how many."""
        held = self._held(without_newest)
        sorted_tasks, order = self.replay.task[held].sort()
        slots = held[order]
        first, after = torch.searchsorted(sorted_tasks, tasks), torch.searchsorted(sorted_tasks, tasks, right=True)
        return slots, first, after - first

    def _steps(self, K: int, R: int, generator: torch.Generator) -> Tensor:
        """Places in the trials: (K, R). Runs begin in different places if trials are long enough, but may overlap."""
        n, device = self._n_consecutive, self.replay.device
        n_starts, n_runs = self.replay.n_steps - n + 1, -(-K // n)
        if n_runs <= n_starts:
            starts = torch.rand(n_starts, R, generator=generator, device=device).argsort(0)[:n_runs]
        else:
            starts = torch.randint(n_starts, (n_runs, R), generator=generator, device=device)
        return (starts.unsqueeze(1) + torch.arange(n, device=device).view(-1, 1)).flatten(0, 1)[:K]

    def _balanced_tasks(self, generator: torch.Generator) -> Tensor:
        """(R,): each half holds the same tasks, drawn as evenly as they divide it, of those that are replayed."""
        held = self.replay.task[: len(self.replay)].unique()
        return balanced_draw(held, self.config.batch // 2, generator).repeat(2)


def draw_below(count: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform integers in 0 ... count - 1 (0 where count is 0), of count's shape."""
    share = torch.rand(count.shape, generator=generator, device=count.device, dtype=torch.float64)
    return (share * count).long()


def balanced_draw(items: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """(n,) of items (m,) in random order, each as often as the others, or once more."""
    n_rounds = -(-n // len(items))
    rounds = [torch.randperm(len(items), generator=generator, device=items.device) for _ in range(n_rounds)]
    return items[torch.cat(rounds)[:n]]
