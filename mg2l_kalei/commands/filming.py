"""One trial of a trained run as a film: what happens, and what each agent believes the task to be."""

from __future__ import annotations

import torch
from torch import Tensor

from envs.core import EnvBatch, Observation, Picture, Refusal, Scene, StepResult
from mg2l_kalei.acting.collector import collect
from mg2l_kalei.evaluation.probe import task_probabilities
from mg2l_kalei.evaluation.render import Film, trial_captions
from mg2l_kalei.evaluation.statistics import Array
from mg2l_kalei.seeding import torch_generator
from mg2l_kalei.training.assessment import assess
from mg2l_kalei.training.saved_run import LoadedRun
from mg2l_kalei.types import Rollout

PROBE_TRIALS = 16  # per task, that the probe of the belief is fitted on


def film_trial(run: LoadedRun, task: int, *, n_episodes: int = 1, n_steps: int = 300, seed: int = 0) -> Film:
    """A trial on task number ``task``, or its first ``n_steps``, played as the run's evaluations are.

    ``seed`` draws the trial. The belief is that of a probe on each agent's own latent, fitted on other trials of all
    tasks of the task's split; without latents there is none. Raises Refusal where the family has no scenes, or they
    cannot be drawn here.
    """
    family = run.family
    device, actions = run.system.device, run.config.eval_actions
    env = _Filmed(family.drawn().make(1, device, torch_generator(seed, "film", device=device)), family.name)
    number = torch.tensor([task], device=device)
    n_steps = min(n_steps, n_episodes * family.spec.episode_steps)
    explore = run.system.learner.sampling(run.env_steps) if actions == "sampled" else None
    rollout = collect(env, run.team(seed), number, n_steps, explore=explore)
    reward, starts = (x[:, 0].cpu().numpy() for x in (rollout.steps.reward, rollout.steps.episode_start))
    shown = family.tasks[task]
    return Film(
        scenes=env.scenes,
        captions=trial_captions(f"{run.config.algo} · {shown.name}", reward, starts),
        belief=_belief(run, rollout, shown.split, n_episodes),
        tasks=tuple(other.name for other in family.splits[shown.split]),
        true_task=family.splits[shown.split].index(shown),
    )


def _belief(run: LoadedRun, rollout: Rollout, split: str, n_episodes: int) -> Array | None:
    """(T, N, n_tasks) at each step, before it is made."""
    local = rollout.latent[:, 0].cpu().numpy()  # (T, N, local_dim)
    actions = run.config.eval_actions
    fitted_on = assess(
        run.system,
        run.env_steps,
        split,
        n_episodes=n_episodes,
        n_trials=PROBE_TRIALS,
        actions=actions,
        bad_batch=run.folder.bad_batch,
    ).latents
    return None if fitted_on is None or local.shape[-1] == 0 else task_probabilities(fitted_on, local)


class _Filmed:
    """An environment batch that keeps the scene of row 0 before every step."""

    def __init__(self, env: EnvBatch, name: str) -> None:
        self.env, self.spec, self.name = env, env.spec, name
        self.scenes: list[Scene | Picture] = []

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        return self.env.reset(tasks, where)

    def step(self, action: Tensor) -> StepResult:
        self.scenes.append(self.scene(0))
        return self.env.step(action)

    def scene(self, row: int) -> Scene | Picture:
        scene = self.env.scene(row)
        if scene is None:
            raise Refusal(f"{self.name} cannot be drawn: its environments have no scenes")
        return scene
