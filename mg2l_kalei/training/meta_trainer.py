"""Meta-training: collect a trial in every row, learn to infer the task, learn to act; and all the state of it."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mg2l_kalei.acting.collector import Team
from mg2l_kalei.buffers.contexts import ContextSampler
from mg2l_kalei.buffers.trials import TrialReplay, replay_size, trial_size
from mg2l_kalei.disk.finite import check_finite, trial_parts
from mg2l_kalei.disk.shards import Shard
from mg2l_kalei.seeding import torch_generator
from mg2l_kalei.training.phase_order import phases_of
from mg2l_kalei.training.phases import Iteration, Workshop
from mg2l_kalei.training.stopwatch import Stopwatch
from mg2l_kalei.training.system import System
from mg2l_kalei.training.task_inference import InferenceTrainer
from mg2l_kalei.types import Clock, Metrics, State

# Processes that train together draw from streams of their own, but for the last two: weights stay the same in all.
STREAMS = ("env", "exploration_env", "acting", "tasks", "contexts", "learner", "sharing")
SHARED_STREAMS = ("learner", "sharing")
MODEL_STREAM = "world_model"  # of runs that have one


class MetaTrainer:
    """Trains a system, an iteration at a time. ``bad_batch`` is where a batch with non-finite values is written.

    ``tasks``: numbers of those that are trained on; None: the family's training tasks.
    """

    def __init__(self, system: System, bad_batch: Path, *, tasks: Sequence[int] | None = None) -> None:
        config, self.device, rank = system.config, system.device, system.processes.rank
        bad_batch = bad_batch.with_stem(f"{bad_batch.stem}-{rank}") if rank else bad_batch
        self.system, self.config, self.bad_batch = system, config, bad_batch
        own = {name: (rank,) if rank and name not in SHARED_STREAMS else () for name in STREAMS}
        self.generators = {name: torch_generator(config.seed, name, *own[name], device=self.device) for name in STREAMS}
        if system.world_model is not None:
            self.generators[MODEL_STREAM] = torch_generator(config.seed, MODEL_STREAM, device=self.device)
        self.stopwatch = Stopwatch(self.device)
        self.replay = self._make_replay()
        self.shop = Workshop(
            system=system,
            replay=self.replay,
            inference=self._make_inference(),
            team=Team(system.learner, system.encoder, self.generators["acting"], timed=self.stopwatch),
            train_tasks=(system.family.task_ids("train") if tasks is None else torch.tensor(tasks)).to(self.device),
            generators=self.generators,
            stopwatch=self.stopwatch,
            bad_batch=bad_batch,
        )
        self.phases = phases_of(self.shop)
        self.total_env_steps = self.env_steps_of(config.n_iters)
        self.iteration = 0
        self.env_steps = 0
        self.best_return: float | None = None  # of evaluations on training tasks, in their last episode

    def _of_all_processes(self, found: Metrics) -> dict[str, Tensor]:
        """Means of metrics over the processes, which all have the same ones, in one reduction."""
        processes = self.system.processes
        scalars = {name: torch.as_tensor(value) for name, value in found.items()}
        if processes.size == 1:
            return scalars
        names = sorted(scalars)
        stacked = torch.stack([scalars[name].to(self.device, torch.float64) for name in names])
        return dict(zip(names, processes.mean(stacked), strict=True))

    def env_steps_of(self, n_iters: int) -> int:
        """Environment steps that all phases make in ``n_iters`` iterations."""
        return sum(phase.env_steps(n_iters) for phase in self.phases.values())

    def iterations_for(self, env_steps: int) -> int:
        """The least number of iterations that makes ``env_steps`` or more."""
        enough = -(-env_steps // self.system.steps_per_iteration)  # without what phases explore
        return bisect_left(range(enough), env_steps, key=self.env_steps_of)

    def _make_replay(self) -> TrialReplay | None:
        system, fields = self.system, self.system.replayed_fields
        if not fields:
            return None
        return TrialReplay(self.config.replay, system.spec, system.trial_steps, fields, self.device)

    def _make_inference(self) -> InferenceTrainer | None:
        encoder, generator = self.system.encoder, self.generators["contexts"]
        if not encoder.learns or self.replay is None:
            return None
        contexts = ContextSampler(self.config.context, self.replay, n_consecutive=encoder.n_consecutive)
        return InferenceTrainer(encoder, contexts, generator, processes=self.system.processes)

    @property
    def clock(self) -> Clock:
        """How far training is."""
        return Clock(self.iteration, self.env_steps, self.total_env_steps)

    def iterate(self) -> Metrics:
        """One iteration: every phase that is due. Returns its metrics."""
        self.system.processes.tell("iterate")
        self.stopwatch.seconds.clear()
        started, steps_before = time.perf_counter(), self.env_steps
        iteration, found = Iteration(self.clock), Metrics()
        for phase in self.phases.values():
            if phase.is_due(iteration.clock):
                found |= phase.run(iteration)
        metrics = self._of_all_processes(found)
        self._check_update(iteration, metrics)
        self.iteration += 1
        self.env_steps = iteration.clock.env_steps
        self.stopwatch.wait()
        elapsed = time.perf_counter() - started
        shares: Metrics = {f"time/{name}_share": seconds / elapsed for name, seconds in self.stopwatch.seconds.items()}
        rates: Metrics = {
            "time/env_steps_per_s": (self.env_steps - steps_before) / elapsed,
            "time/iteration_s": elapsed,
        }
        return metrics | shares | rates

    def _check_update(self, iteration: Iteration, metrics: Mapping[str, Tensor]) -> None:
        networks = {"encoder": self.system.encoder, **self.system.learner.networks}
        if self.system.world_model is not None:
            networks["world_model"] = self.system.world_model.network
        parameters = {f"{name}.{key}": p for name, network in networks.items() for key, p in network.named_parameters()}
        fresh = {} if iteration.rollout is None else trial_parts(iteration.rollout)
        learned_from = {**fresh, "replayed": self.system.learner.drawn}
        check_finite({**learned_from, **metrics, **parameters}, self.bad_batch, processes=self.system.processes)
        self.system.learner.drawn = None

    def note_evaluation(self, evaluated: Mapping[str, float]) -> bool:
        """Whether this evaluation, on training tasks, is the best so far, by its last episode. Others have no say."""
        last = evaluated[f"evaluation/train/return_k{self.config.eval_episodes - 1}"]
        is_best = self.best_return is None or last > self.best_return
        if is_best:
            self.best_return = last
        return is_best

    def state_dict(self) -> dict[str, State]:
        """Everything that changes in training, in two parts; the replay's trials are saved beside them, in shards.

        ``weights`` is all that evaluation reads. An iteration starts new trials, so simulators hold none of it.
        """
        processes = self.system.processes
        processes.tell("state_dict")
        training = {
            "n_processes": processes.size,
            "best_return": self.best_return,
            "learner": self.system.learner.state_dict(),
            **({} if self.system.world_model is None else {"world_model": self.system.world_model.state_dict()}),
            "phases": {name: phase.state_dict() for name, phase in self.phases.items()},
            "generators": {name: processes.gather(g.get_state()) for name, g in self.generators.items()},
        }
        return {"weights": self.system.weights(self.iteration, self.env_steps), "training": training}

    def trials_since(self, first: int) -> Shard | None:
        """The replay's trials from number ``first`` on, counted over the whole run; None: there is no replay."""
        processes = self.system.processes
        if self.replay is None:
            return None
        processes.tell("trials_since", first)
        first, trials = self.replay.since(first)
        if processes.size > 1:  # (n, processes, ...): all have as many
            trials = {name: processes.gather(x.unsqueeze(1), dim=1) for name, x in trials.items()}
        return Shard(first, trials)

    @property
    def oldest_trial(self) -> int:
        """Number of the oldest trial that the replay holds."""
        return 0 if self.replay is None else self.replay.n_added - len(self.replay)

    @property
    def sizes(self) -> str:
        """What rollouts and the replay take, in words."""
        system = self.system
        rollout = self.config.n_rows * trial_size(system.spec, system.trial_steps)
        if self.replay is None:
            return f"rollouts of {rollout:.2g} GiB"
        size = replay_size(self.config.replay, system.spec, system.trial_steps, system.replayed_fields)
        told = (
            f"rollouts of {rollout:.2g} GiB, a replay of {self.replay.capacity} trials, {size:.2g} GiB when it is full"
        )
        remembered = 0.0 if system.world_model is None else system.world_model.remembered
        return f"{told}, what imagined rows remember, up to {remembered:.2g} GiB" if remembered else told

    def load_state_dict(self, state: Mapping[str, State], shards: Iterable[Shard]) -> None:
        """Restore what ``state_dict`` gave, and trials; generators last. ValueError on another kind of device."""
        weights, training, processes = state["weights"], state["training"], self.system.processes
        n_processes = training.get("n_processes", 1)
        if n_processes != processes.size:
            raise ValueError(
                f"this run was begun by {n_processes} processes, not {processes.size}: go on with as many, or start "
                "afresh with resume=never"
            )
        self.system.load_weights(weights)
        self.iteration, self.env_steps = weights["iteration"], weights["env_steps"]
        self.best_return = training["best_return"]
        self.system.learner.load_state_dict(training["learner"])
        if self.system.world_model is not None:
            self.system.world_model.load_state_dict(training["world_model"])
        for name, phase in self.phases.items():
            phase.load_state_dict(training["phases"][name])
        if self.replay is not None:
            for first, trials in shards:
                own = {name: x[:, processes.rank] if processes.size > 1 else x for name, x in trials.items()}
                self.replay.restore(first, own)
        try:
            for name, generator in self.generators.items():
                own_part = processes.own(len(generator.get_state()))
                generator.set_state(training["generators"][name][own_part].clone())
        except RuntimeError as error:
            raise ValueError(
                f"this run was not begun on {self.device.type}, whose random numbers differ: go on where it was begun "
                "(device=...), or start afresh with resume=never"
            ) from error
