"""The phases of an iteration: what each does, when it is due, and how many environment steps it makes in a run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from mg2l_kalei.acting.collector import Held, Team, collect
from mg2l_kalei.buffers.contexts import balanced_draw
from mg2l_kalei.buffers.trials import TrialReplay
from mg2l_kalei.buffers.windows import with_joint_state
from mg2l_kalei.disk.finite import check_trial
from mg2l_kalei.learners.base import Experience
from mg2l_kalei.seeding import torch_generator
from mg2l_kalei.sharing.grouping import adjusted_rand
from mg2l_kalei.training.stopwatch import Stopwatch, TimedEnv
from mg2l_kalei.training.system import System
from mg2l_kalei.training.task_inference import InferenceTrainer
from mg2l_kalei.types import Clock, Metrics, Rollout, State


class Workshop(NamedTuple):
    """What phases share."""

    system: System
    replay: TrialReplay | None  # None: nobody learns from past trials
    inference: InferenceTrainer | None  # None: the encoder does not learn
    team: Team
    train_tasks: Tensor  # (n,) int64
    generators: dict[str, torch.Generator]
    stopwatch: Stopwatch
    bad_batch: Path  # where a trial with values that are not finite is written

    def env(self, stream: str, n_rows: int) -> TimedEnv:
        """Environments of a phase's own, with randomness of their own."""
        env = self.system.family.make(n_rows, self.system.device, self.generators[stream])
        return TimedEnv(env, self.stopwatch)

    def play(self, env: TimedEnv, task: Tensor, clock: Clock, held: Held | None) -> Rollout:
        """A trial on task (B,), checked."""
        with self.stopwatch("acting"):
            trial = collect(
                env,
                self.team,
                task,
                self.system.trial_steps,
                explore=clock,
                held=held,
                sample=self.system.encoder.acts_on_samples,
            )
        check_trial(trial, self.bad_batch, self.system.processes)
        if self.system.world_model is not None:  # which predicts observations: see ``jointly_observed``
            trial = trial._replace(steps=with_joint_state(trial.steps))
        return trial

    def keep(self, trial: Rollout, iteration: Iteration) -> None:
        """Into the replay, and into the encoder's input statistics."""
        if self.inference is not None:
            self.inference.encoder.fit_normaliser(trial.transition)
        if self.replay is not None:
            self.replay.add(trial.steps, trial.task)
            iteration.n_new_trials += len(trial.task)


class Iteration:
    """What has come of an iteration so far."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock  # its env_steps grow as phases play
        self.n_new_trials = 0  # in the replay
        self.rollout: Rollout | None = None  # what learners learn from; None: nothing that this one can learn from now

    def count(self, env_steps: int) -> None:
        self.clock = self.clock._replace(env_steps=self.clock.env_steps + env_steps)


class Phase(Protocol):
    """A part of every iteration, or of some."""

    def is_due(self, clock: Clock) -> bool:
        """Whether it has something to do now."""
        ...

    def run(self, iteration: Iteration) -> Metrics:
        """Do it, and count the environment steps made."""
        ...

    def env_steps(self, n_iters: int) -> int:
        """That it makes in ``n_iters`` iterations."""
        ...

    def state_dict(self) -> State:
        """What changes in it, and is nobody else's."""
        ...

    def load_state_dict(self, state: State) -> None: ...


class Stateless:
    """What most phases have in common: due in every iteration, no environment steps, no state of their own."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop

    def is_due(self, clock: Clock) -> bool:
        return True

    def env_steps(self, n_iters: int) -> int:
        return 0

    def state_dict(self) -> State:
        return {}

    def load_state_dict(self, state: State) -> None: ...


class Explore(Stateless):
    """Fills the replay by trials that act on a latent of the prior, held for the trial; at first one of every task.

    Tasks take turns in one order: as many trials as there are tasks, whichever follow each other, hold every task.
    """

    def __init__(self, shop: Workshop) -> None:
        super().__init__(shop)
        self._next = 0  # place, among the training tasks, of the one whose turn it is
        self.config = shop.system.config.context
        self.env = shop.env("exploration_env", self.config.explore_rows)

    def is_due(self, clock: Clock) -> bool:
        return self._n_trials(clock.iteration) > 0

    def run(self, iteration: Iteration) -> Metrics:
        shop, n_rows = self.shop, self.config.explore_rows
        assert shop.inference is not None
        n_trials = self._n_trials(iteration.clock.iteration)
        for _ in range(n_trials):
            task = self._take_turns(n_rows)
            held = shop.inference.prior_latents(n_rows, shop.system.family.spec.n_agents)
            shop.keep(shop.play(self.env, task, iteration.clock, held), iteration)
            iteration.count(n_rows * shop.system.trial_steps * shop.system.processes.size)
        return {}

    def env_steps(self, n_iters: int) -> int:
        n_trials = sum(map(self._n_trials, range(n_iters)))
        system = self.shop.system
        return n_trials * self.config.explore_rows * system.trial_steps * system.processes.size

    def state_dict(self) -> State:
        return {"next": self._next}

    def load_state_dict(self, state: State) -> None:
        self._next = state.get("next", 0)  # runs of before drew their tasks

    def _take_turns(self, n: int) -> Tensor:
        """The tasks whose turn it is: (n,)."""
        tasks = self.shop.train_tasks
        places = (self._next + torch.arange(n, device=tasks.device)) % len(tasks)
        self._next = (self._next + n) % len(tasks)
        return tasks[places]

    def _n_trials(self, iteration: int) -> int:
        """Trials of ``explore_rows`` rows in this iteration."""
        if iteration % self.config.explore_interval:
            return 0
        return -(-len(self.shop.train_tasks) // self.config.explore_rows) if iteration == 0 else 1


class Collect(Stateless):
    """A fresh trial in every row: what learners learn from."""

    def __init__(self, shop: Workshop) -> None:
        super().__init__(shop)
        self.env = shop.env("env", shop.system.config.n_rows)

    def run(self, iteration: Iteration) -> Metrics:
        shop = self.shop
        task = balanced_draw(shop.train_tasks, shop.system.config.n_rows, shop.generators["tasks"])
        held = None
        if shop.inference is not None and shop.inference.config.source == "replay":
            with shop.stopwatch("inference"):
                held = shop.inference.held_latents(task)
        iteration.rollout = rollout = shop.play(self.env, task, iteration.clock, held)
        iteration.count(shop.system.steps_per_iteration)
        if held is None:  # else exploration alone fills the replay
            shop.keep(rollout, iteration)
        won = {"train/won": share_won(rollout)} if self.env.spec.can_be_won else {}
        return {"train/episode_return": mean_episode_return(rollout), **won}

    def env_steps(self, n_iters: int) -> int:
        return n_iters * self.shop.system.steps_per_iteration


class Infer(Stateless):
    """Updates of the task encoder by its own loss; before them, how well it infers from trials that are new to it."""

    def is_due(self, clock: Clock) -> bool:
        return self.shop.inference is not None

    def run(self, iteration: Iteration) -> Metrics:
        shop, number = self.shop, iteration.clock.iteration
        assert shop.inference is not None
        own = (shop.system.config.seed, "figures", number, shop.system.processes.rank)
        with shop.stopwatch("inference"):
            figures = shop.inference.figures(iteration.n_new_trials, torch_generator(*own, device=shop.system.device))
            return figures | shop.inference.update(number)

    def state_dict(self) -> State:
        return {} if self.shop.inference is None else self.shop.inference.state_dict()

    def load_state_dict(self, state: State) -> None:
        if self.shop.inference is not None:
            self.shop.inference.load_state_dict(state)


class FitSharing(Stateless):
    """Sharing schemes that find out from what was lived through who shares with whom.

    On-policy learners do not learn from a rollout whose team was grouped anew after it.
    """

    def is_due(self, clock: Clock) -> bool:
        learner, replay = self.shop.system.learner, self.shop.replay
        return any(sharing.needs_fit(replay, clock) or sharing.groups for sharing in learner.sharings())

    def run(self, iteration: Iteration) -> Metrics:
        shop, metrics, family = self.shop, Metrics(), self.shop.system.family
        optimisers = list(shop.system.learner.optimisers.values())
        due = [one for one in optimisers if one.sharing.needs_fit(shop.replay, iteration.clock)]
        if due:  # all are the run's one scheme
            assert shop.replay is not None
            found = due[0].sharing.find(shop.replay, family.spec, shop.generators["sharing"])
        for one in due:
            before = one.sharing.groups
            one.sharing.fit(one.network, found, iteration.clock, one.adam)
            if one.sharing.groups != before and shop.system.learner.is_on_policy:
                iteration.rollout = None  # whoever acted in it has other weights now
        for one in optimisers:
            metrics |= one.sharing.told
            if one.sharing.groups and family.true_groups:
                metrics["sharing/adjusted_rand"] = adjusted_rand(family.true_groups, one.sharing.groups)
        return metrics


class Learn(Stateless):
    """The learner's update."""

    def is_due(self, clock: Clock) -> bool:
        model = self.shop.system.world_model
        return model is None or model.config.real_rollouts

    def run(self, iteration: Iteration) -> Metrics:
        shop, rollout = self.shop, iteration.rollout
        if rollout is None:
            return {}
        experience = Experience(rollout, shop.replay, shop.system.encoder)
        with shop.stopwatch("update"):
            return shop.system.learner.update(experience, iteration.clock, shop.generators["learner"])


def mean_episode_return(rollout: Rollout) -> Tensor:
    """Reward summed over an episode, mean over agents and episodes; episodes that the trial cut off count only if none
    came to its end."""
    ends = rollout.steps.ends  # (T, B)
    within = ends.flip(0).cumsum(0).flip(0) > 0  # an end is still to come
    reward = rollout.steps.reward.mean(-1)
    if not ends.any():
        return reward.sum(0).mean()
    return (reward * within).sum() / ends.sum()


def share_won(rollout: Rollout) -> Tensor:
    """Of the episodes that came to their end, the share that was won; 0 where none did."""
    steps = rollout.steps
    return steps.won.sum() / steps.ends.sum().clamp(min=1)
