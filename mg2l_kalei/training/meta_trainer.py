"""Meta-training: collect a trial in every row, learn to infer the task, learn to act; and all the state of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mg2l_kalei.acting.collector import Held, Team, collect
from mg2l_kalei.buffers.contexts import ContextBuffer, balanced_draw
from mg2l_kalei.disk.finite import check_finite
from mg2l_kalei.seeding import torch_generator
from mg2l_kalei.training.stopwatch import Stopwatch, TimedEnv
from mg2l_kalei.training.system import System
from mg2l_kalei.training.task_inference import InferenceTrainer
from mg2l_kalei.types import Metrics, Rollout, State

STREAMS = ("env", "exploration_env", "acting", "tasks", "contexts", "learner")
WITHIN_A_STEP = ("obs", "state", "latent", "action", "acting", "reward")  # each may spoil those after it


class MetaTrainer:
    """Trains a system, an iteration at a time. ``bad_batch`` is where a batch with non-finite values is written."""

    def __init__(self, system: System, bad_batch: Path) -> None:
        config, self.device = system.config, system.device
        self.system, self.config, self.bad_batch = system, config, bad_batch
        self.generators = {name: torch_generator(config.seed, name, device=self.device) for name in STREAMS}
        self.stopwatch = Stopwatch(self.device)
        encoder, spec = system.encoder, system.family.spec
        buffer = ContextBuffer(
            config.context, spec, system.trial_steps, self.device, n_consecutive=encoder.n_consecutive
        )
        self.inference = InferenceTrainer(encoder, buffer, self.generators["contexts"])
        self.team = Team(system.learner, system.encoder, self.generators["acting"], timed=self.stopwatch)
        self.train_tasks = system.family.task_ids("train").to(self.device)
        self.env = self._make_env("env", config.n_rows)
        self.exploration_env = self._make_env("exploration_env", config.context.explore_rows)
        self.iteration = 0
        self.env_steps = 0
        self.best_return: float | None = None  # of evaluations on training tasks, in their last episode

    def _make_env(self, stream: str, n_rows: int) -> TimedEnv:
        env = self.system.family.make(n_rows, self.device, self.generators[stream])
        return TimedEnv(env, self.stopwatch)

    def iterate(self) -> Metrics:
        """One iteration: rollout, encoder updates, learner update. Returns its metrics."""
        self.stopwatch.seconds.clear()
        started, steps_before = time.perf_counter(), self.env_steps
        self._explore()
        rollout = self._collect()
        if self.config.context.source == "online":  # replay: exploration alone fills the buffer
            self.inference.add(rollout)
        with self.stopwatch("inference"):
            metrics = self.inference.update(self.iteration)
        with self.stopwatch("update"):
            learner = self.system.learner
            metrics |= learner.update(rollout, self.system.encoder, self.env_steps, self.generators["learner"])
        self._check_update(rollout, metrics)
        self.iteration += 1
        elapsed = time.perf_counter() - started
        shares: Metrics = {f"time/{name}_share": seconds / elapsed for name, seconds in self.stopwatch.seconds.items()}
        return metrics | shares | self._rollout_metrics(rollout, steps_before, elapsed)

    def _collect(self) -> Rollout:
        task = balanced_draw(self.train_tasks, self.config.n_rows, self.generators["tasks"])
        with self.stopwatch("inference"):
            held = self.inference.held_latents(task)
        with self.stopwatch("acting"):
            rollout = collect(self.env, self.team, task, self.system.trial_steps, explore=True, held=held)
        self._check_trial(rollout)
        self.env_steps += self.system.steps_per_iteration
        return rollout

    def _explore(self) -> None:
        """Replay: fill the context buffer by trials that act on a latent of the prior, held for the trial."""
        context = self.config.context
        if context.source == "online" or not self.system.encoder.learns or self.iteration % context.explore_interval:
            return
        covering = -(-len(self.train_tasks) // context.explore_rows)  # trials until every task has been explored
        n_trials = covering if self.iteration == 0 else 1
        n_rows, n_agents = context.explore_rows, self.system.family.spec.n_agents
        tasks = balanced_draw(self.train_tasks, n_trials * n_rows, self.generators["tasks"])
        for task in tasks.split(n_rows):
            held: Held = self.inference.prior_latents(n_rows, n_agents)
            with self.stopwatch("acting"):
                trial = collect(self.exploration_env, self.team, task, self.system.trial_steps, explore=True, held=held)
            self._check_trial(trial)
            self.inference.add(trial)
            self.env_steps += n_rows * self.system.trial_steps

    def _rollout_metrics(self, rollout: Rollout, steps_before: int, elapsed: float) -> Metrics:
        return {
            "train/episode_return": mean_episode_return(rollout),
            "time/env_steps_per_s": (self.env_steps - steps_before) / elapsed,
            "time/iteration_s": elapsed,
        }

    def _check_trial(self, rollout: Rollout) -> None:
        named = {name: getattr(rollout, name) for name in (*WITHIN_A_STEP, *rollout._fields)}
        check_finite(named, self.bad_batch, time_first=True)

    def _check_update(self, rollout: Rollout, metrics: Metrics) -> None:
        networks = {"encoder": self.system.encoder, **self.system.learner.networks()}
        scalars = {name: torch.as_tensor(value) for name, value in metrics.items()}
        parameters = {f"{name}.{key}": p for name, network in networks.items() for key, p in network.named_parameters()}
        check_finite({**rollout._asdict(), **scalars, **parameters}, self.bad_batch)

    def note_evaluation(self, evaluated: Mapping[str, float]) -> bool:
        """Whether this evaluation, on training tasks, is the best so far, by its last episode. Others have no say."""
        last = evaluated[f"evaluation/train/return_k{self.config.eval_episodes - 1}"]
        is_best = self.best_return is None or last > self.best_return
        if is_best:
            self.best_return = last
        return is_best

    def state_dict(self) -> State:
        """Everything that changes in training: an iteration starts new trials, so the simulators hold none of it.

        "weights" are all that acting needs, "training" is what going on needs too.
        """
        return {
            "weights": {
                "iteration": self.iteration,
                "env_steps": self.env_steps,
                "encoder": dict(self.system.encoder.state_dict()),
                "learner": self.system.learner.state_dict(),
            },
            "training": {
                "best_return": self.best_return,
                "inference": self.inference.state_dict(),
                "generators": {name: generator.get_state() for name, generator in self.generators.items()},
            },
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what ``state_dict`` gave; generators last. ValueError where that was on another kind of device."""
        weights, training = state["weights"], state["training"]
        self.iteration, self.env_steps = weights["iteration"], weights["env_steps"]
        self.best_return = training["best_return"]
        self.system.load_weights(weights)
        self.inference.load_state_dict(training["inference"])
        try:
            for name, generator in self.generators.items():
                generator.set_state(training["generators"][name])
        except RuntimeError as error:
            raise ValueError(
                f"this run was not begun on {self.device.type}, whose random numbers differ: go on where it was begun "
                "(device=...), or start afresh with resume=never"
            ) from error


def mean_episode_return(rollout: Rollout) -> Tensor:
    """Reward summed over an episode, mean over agents and episodes; episodes that the trial cut off count only if none
    came to its end."""
    ends = rollout.terminated | rollout.truncated  # (T, B)
    within = ends.flip(0).cumsum(0).flip(0) > 0  # an end is still to come
    reward = rollout.reward.mean(-1)
    if not ends.any():
        return reward.sum(0).mean()
    return (reward * within).sum() / ends.sum()
