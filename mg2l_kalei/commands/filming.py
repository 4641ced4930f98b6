"""One trial of a trained run as a film: what happens, and what each agent believes the task to be."""

from __future__ import annotations

import torch
from torch import Tensor

from envs.core import EnvBatch, Marker, Observation, Picture, Refusal, Scene, StepResult
from mg2l_kalei.acting.collector import collect
from mg2l_kalei.evaluation.imagination import imagined_beside
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
    n_steps = min(n_steps, n_episodes * family.spec.episode_steps)
    env, rollout = _played(run, task, n_steps, seed)
    reward, starts = (x[:, 0].cpu().numpy() for x in (rollout.steps.reward, rollout.steps.episode_start))
    shown = family.tasks[task]
    return Film(
        scenes=env.scenes,
        captions=trial_captions(f"{run.config.algo} · {shown.name}", reward, starts),
        belief=_belief(run, rollout, shown.split, n_episodes),
        tasks=tuple(other.name for other in family.splits[shown.split]),
        true_task=family.splits[shown.split].index(shown),
    )


def film_imagined(run: LoadedRun, task: int, *, n_steps: int = 300, seed: int = 0) -> Film:
    """An episode on task number ``task``, or its first ``n_steps``, as it went and as the world model imagines it.

    It is imagined from the start on, along the actions that were taken. Raises Refusal where the run has no model, or
    observations do not tell where agents are.
    """
    family, model = run.family, run.system.world_model
    if model is None:
        raise Refusal(f"{run.folder.path} has no world model: nothing is imagined")
    if family.places(torch.zeros(family.spec.n_agents, family.spec.obs_dim)) is None:
        raise Refusal(f"observations of {family.name} do not tell where agents are: what is imagined cannot be drawn")
    env, rollout = _played(run, task, min(n_steps, family.spec.episode_steps), seed)
    generator = torch_generator(seed, "film", "imagined", device=run.system.device)
    shown = imagined_beside(model, run.system.encoder, rollout, generator)
    places = family.places(torch.from_numpy(shown.imagined_obs))
    assert places is not None
    ahead = [_with_ghosts(scene, now.tolist()) for scene, now in zip(env.scenes[1:], places, strict=False)]
    name = family.tasks[task].name
    return Film([env.scenes[0], *ahead], [f"{name} · step {t} · light: imagined" for t in range(len(ahead) + 1)])


def _with_ghosts(scene: Scene | Picture, places: list[list[float]]) -> Scene | Picture:
    """The scene, and below its agents others where they are imagined."""
    if not isinstance(scene, Scene):
        raise Refusal("scenes that are pictures cannot be drawn into")
    size = next(marker.radius for marker in scene.markers if marker.role == "agent")
    ghosts = [Marker(x, y, size, "imagined", False) for x, y in places]
    return scene._replace(markers=(*ghosts, *scene.markers))


def _played(run: LoadedRun, task: int, n_steps: int, seed: int) -> tuple[_Filmed, Rollout]:
    """A trial's first steps, played as the run's evaluations are, and what was filmed of them."""
    device, family = run.system.device, run.family
    env = _Filmed(family.drawn().make(1, device, torch_generator(seed, "film", device=device)), family.name)
    explore = run.system.learner.sampling(run.env_steps) if run.config.eval_actions == "sampled" else None
    number = torch.tensor([task], device=device)
    return env, collect(env, run.team(seed), number, n_steps, explore=explore)


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
