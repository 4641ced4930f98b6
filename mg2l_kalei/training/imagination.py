"""The phases of runs with a world model: it learns from what was lived through, and the team learns in it."""

from __future__ import annotations

import torch

from mg2l_kalei.acting.collector import Past, Team, continue_trials
from mg2l_kalei.buffers.trials import ReplayConfig, ToldTrials
from mg2l_kalei.buffers.windows import Moments, draw_moments, histories
from mg2l_kalei.disk.finite import check_finite, check_trial
from mg2l_kalei.encoders.references import GivenEncoder
from mg2l_kalei.learners.base import Experience
from mg2l_kalei.learners.replayed import averaged
from mg2l_kalei.seeding import torch_generator
from mg2l_kalei.training.phases import Iteration, Stateless, Workshop
from mg2l_kalei.types import Metrics, Rollout, State
from mg2l_kalei.world_models.base import ImaginationConfig, Starts, starts_at, task_latents
from mg2l_kalei.world_models.scores import open_loop_scores


class LearnWorldModel(Stateless):
    """Updates of the world model, so many for each real step; before them its errors on trials that it has not seen."""

    def __init__(self, shop: Workshop) -> None:
        super().__init__(shop)
        assert shop.replay is not None and shop.system.world_model is not None
        self.replay, self.model = shop.replay, shop.system.world_model
        self.config: ImaginationConfig = self.model.config
        self.n_updates = 0  # so far

    def run(self, iteration: Iteration) -> Metrics:
        shop, encoder, clock = self.shop, self.shop.system.encoder, iteration.clock
        if self.replay.n_added < self.config.first_trials:
            return {}
        metrics = self._scores(iteration)
        n_due = int(self.config.model_updates * clock.env_steps) - self.n_updates
        with shop.stopwatch("world_model"):
            generator = shop.generators["world_model"]
            metrics |= self.model.learn(self.replay, encoder, clock, n_updates=n_due, generator=generator)
        self.n_updates += n_due
        parameters = {f"world_model.{name}": part for name, part in self.model.network.named_parameters()}
        found = {name: torch.as_tensor(value) for name, value in metrics.items()} | parameters
        check_finite(found, shop.bad_batch, processes=shop.system.processes)  # before the team acts in it
        return metrics

    def _scores(self, iteration: Iteration) -> Metrics:
        """Of a model that has learned, on this iteration's trials."""
        number, n_fresh = iteration.clock.iteration, self.shop.system.config.n_rows
        is_due = self.n_updates > 0 and number % self.config.score_interval == 0
        if not is_due or len(self.replay) <= n_fresh:
            return {}
        slots = torch.arange(self.replay.n_added - len(self.replay), self.replay.n_added, device=self.replay.device)
        past, fresh = (slots % self.replay.capacity).tensor_split([len(slots) - n_fresh])
        seed, device = self.shop.system.config.seed, self.replay.device
        generator = torch_generator(seed, "world_model_scores", number, device=device)  # of no other's randomness
        return open_loop_scores(self.model, self.replay, (past, fresh), self.shop.system.encoder, generator)

    def state_dict(self) -> State:
        return {"n_updates": self.n_updates}

    def load_state_dict(self, state: State) -> None:
        self.n_updates = state["n_updates"]


class Imagine(Stateless):
    """Rollouts of the team in its world model, each learned from at once. They are no environment steps.

    Learners that replay do so with those of this iteration, which the world model as it is now has made.
    """

    def __init__(self, shop: Workshop, learned: LearnWorldModel) -> None:
        super().__init__(shop)
        self.learned, self.model, self.replay = learned, learned.model, learned.replay
        self.config, self.generator = learned.config, shop.generators["world_model"]
        self.n_steps = 0  # imagined so far

    def run(self, iteration: Iteration) -> Metrics:
        shop, config = self.shop, self.config
        found: list[Metrics] = []
        if not self.learned.n_updates:
            return {}
        actors = {f"actor.{name}": part for name, part in shop.system.learner.networks["actor"].named_parameters()}
        check_finite(actors, shop.bad_batch, processes=shop.system.processes)
        imagined = None if shop.system.learner.is_on_policy else self._nothing_imagined()
        for _ in range(config.imagined_rollouts):
            with shop.stopwatch("imagination"):
                rollout = self._rollout(iteration)
            self.n_steps += rollout.steps.terminated.numel()
            if imagined is not None:
                imagined.take_in(rollout)
            experience = Experience(rollout, imagined, shop.system.encoder)
            with shop.stopwatch("update"):
                metrics = shop.system.learner.update(experience, iteration.clock, shop.generators["learner"])
            found.append({"train/reward": rollout.steps.reward.mean(), **metrics})
        return {**_means(found), "imagined/env_steps": float(self.n_steps)}

    def _nothing_imagined(self) -> ToldTrials:
        """Room for all rows of an iteration."""
        config, system = self.config, self.shop.system
        room = ReplayConfig(max(2, config.imagined_rollouts * config.imagined_rows))
        return ToldTrials(room, system.spec, config.imagined_steps, system.learner.replays, self.replay.device)

    def _rollout(self, iteration: Iteration) -> Rollout:
        shop, config, encoder = self.shop, self.config, self.shop.system.encoder
        held = torch.arange(len(self.replay), device=self.replay.device)
        moments = draw_moments(held, self.replay.n_steps, config.imagined_rows, self.generator)
        starts = starts_at(self.replay, moments, config.burn_in)
        latents = task_latents(self.replay, moments.trial, encoder)
        env = self.model.imagine(starts, latents, self.generator)
        team = Team(shop.system.learner, encoder, self.generator, timed=shop.stopwatch)
        rollout = continue_trials(
            env, team, self._past(moments, starts), config.imagined_steps, explore=iteration.clock
        )
        check_trial(rollout, shop.bad_batch, shop.system.processes)
        return rollout

    def _past(self, moments: Moments, starts: Starts) -> Past:
        """What was lived before, as far as anybody looks at it: without beliefs to form, one step."""
        at_most = 1 if isinstance(self.shop.system.encoder, GivenEncoder) else None
        steps, is_known = histories(self.replay, moments, at_most=at_most)
        return Past(steps, is_known, starts.task, starts.episode_start)

    def state_dict(self) -> State:
        return {"n_steps": self.n_steps}

    def load_state_dict(self, state: State) -> None:
        self.n_steps = state["n_steps"]


def _means(found: list[Metrics]) -> Metrics:
    """Of rollouts' metrics, those of the learner under ``imagined/`` in place of ``train/``."""
    means = averaged(found)  # some are of single rollouts, such as resets
    return {name.replace("train/", "imagined/", 1): value for name, value in means.items()}
