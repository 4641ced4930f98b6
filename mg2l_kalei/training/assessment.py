"""Evaluation of a run's adaptation: trials played by its team, the table, the raw results and the pictures."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from mg2l_kalei.acting.collector import Policy, Team, collect, looked_on
from mg2l_kalei.acting.random_play import RandomPolicy
from mg2l_kalei.disk.durable import write_atomically
from mg2l_kalei.disk.finite import check_finite, check_trial
from mg2l_kalei.disk.metric_log import attempt
from mg2l_kalei.disk.output import printable
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.encoders.references import GivenEncoder
from mg2l_kalei.evaluation.adaptation import evaluate
from mg2l_kalei.evaluation.comparison import Comparison, compare
from mg2l_kalei.evaluation.figures import adaptation_figure, save_picture, sharing_figure, task_space_figure
from mg2l_kalei.evaluation.imagination import imagination_figure, imagination_title, imagined_beside
from mg2l_kalei.evaluation.report import adaptation_table
from mg2l_kalei.evaluation.results import BY_OTHERS, AdaptationResult, raw_name, to_json
from mg2l_kalei.seeding import numpy_generator, torch_generator
from mg2l_kalei.training.saved_run import LoadedRun
from mg2l_kalei.training.system import System
from mg2l_kalei.types import Clock, Rollout
from mg2l_kalei.world_models.base import WorldModel

if TYPE_CHECKING:  # imported where it is used: it takes a second
    from matplotlib.figure import Figure

N_IMAGINED = 16  # episodes that one is chosen from, to be drawn beside what a world model imagines of it
HORIZONS_SHOWN = 3  # at most: imagined steps are dear, and a learner never goes further


class Others(NamedTuple):
    """Who acts in an evaluation: others than the run's team, whose encoder looks on, unless it is that team."""

    name: str  # what results say of their actions
    policy: Policy
    encoder: TaskEncoder  # that the policy acts on
    explore: Clock | None  # None: what they do best


def at_random(system: System) -> Others:
    """All legal actions alike, in the system's family."""
    nothing = GivenEncoder(torch.zeros(len(system.family.tasks), 0), system.family.spec.n_agents)
    return Others(f"{BY_OTHERS}random", RandomPolicy(system.family.spec), nothing.to(system.device), None)


def team_of(run: LoadedRun) -> Others:
    """A trained team, on what it is told or infers itself, acting as its own evaluations do."""
    learner, name = run.system.learner, run.folder.path.resolve().name
    explore = learner.sampling(run.env_steps) if run.config.eval_actions == "sampled" else None
    return Others(f"{BY_OTHERS}{run.config.algo} {name}", learner, run.system.encoder, explore)


class Report(NamedTuple):
    """What is said of an evaluation."""

    text: str  # the table, and where its pictures are
    is_written: bool  # raw results and table; pictures may fail


def assess(
    system: System,
    env_steps: int,
    split: str,
    *,
    n_episodes: int,
    n_trials: int,
    actions: str,
    bad_batch: Path,
    purpose: str = "report",
    only: int | None = None,
    others: Others | None = None,
) -> AdaptationResult:
    """Play evaluation trials with online beliefs and ``actions`` ("mode" or "sampled"), on environments of their own.

    ``env_steps``: what the system was trained for; with the seed, the split and the purpose it decides every random
    number. ``purpose``: "selection" of the best checkpoint plays other episodes than those of a "report", which also
    plays with sampled latents where the encoder has some to sample. ``only``: the number of the one task that is
    played; None: all of the split. ``others``: they act, and the system's encoder infers from what they live through.
    Raises NonFiniteError, with the trial in ``bad_batch``, where anything in a trial or a return is not finite.
    """
    of_env, of_team = _generators(system, purpose, split, env_steps)
    explore = system.learner.sampling(env_steps) if actions == "sampled" else None
    acting = others or Others(actions, system.learner, system.encoder, explore)

    def play(task: Tensor, n_steps: int, sample: bool) -> Rollout:
        env = system.family.make(len(task), system.device, of_env)
        team = Team(acting.policy, acting.encoder, of_team)
        trial = collect(env, team, task.to(system.device), n_steps, explore=acting.explore, sample=sample)
        if others is not None:
            trial = trial._replace(latent=looked_on(Team(RandomPolicy(env.spec), system.encoder, of_team), trial))
        check_trial(trial, bad_batch)
        return trial

    with torch.no_grad():
        result = evaluate(
            play,
            system.family,
            split,
            n_episodes,
            n_trials,
            seed=system.config.seed,
            env_steps=env_steps,
            also_sampled=purpose == "report" and system.encoder.is_stochastic and others is None,
            only=only,
        )
    _check_sums(result, bad_batch)
    return result._replace(actions=acting.name)


def _generators(system: System, *purposes: str | int) -> tuple[torch.Generator, torch.Generator]:
    """Of an evaluation's environments, whose rows set the state of theirs back, and of who acts in them."""
    seed, device = system.config.seed, system.device
    return (
        torch_generator(seed, "evaluation", *purposes, device=device),
        torch_generator(seed, "evaluation", "team", *purposes, device=device),
    )


def _check_sums(result: AdaptationResult, bad_batch: Path) -> None:
    """Raise NonFiniteError where rewards that are finite were too many for their sum to be."""
    sums = {"returns": result.returns, "sampled_returns": result.sampled_returns, "step_reward": result.step_reward}
    check_finite({name: torch.from_numpy(x) for name, x in sums.items() if x is not None}, bad_batch)


def compare_runs(
    label: str, runs: Sequence[AdaptationResult], references: Mapping[str, Sequence[AdaptationResult]]
) -> Comparison:
    """A method's runs (seeds) beside its reference lines, with bootstrap intervals."""
    return compare(label, runs, references, numpy_generator(runs[0].seed, "bootstrap"))


def assess_runs(
    runs: Sequence[LoadedRun],
    references: Mapping[str, Sequence[LoadedRun]],
    split: str,
    *,
    n_episodes: int,
    n_trials: int,
    actions: str,
    out: Path | None = None,
    tag: str = "",
    on: str = "",
    others: Others | None = None,
) -> Report:
    """Evaluate runs that are seeds of one method beside reference runs. ``others``: see ``assess``.

    Raw results go into each run's folder (see ``place_of``), references' too; the table and pictures into the first's.
    ``tag`` ends the names of tables and pictures that are not those of the run's own settings, ``on`` the split in all
    names where it is another family's.
    Raises ValueError where the runs cannot be compared, before anything is written, and OSError, before anything is
    played, where it would be written through links.
    """
    for run in (*runs, *itertools.chain(*references.values())):
        place_of(run, out).refuse_links()

    def play(run: LoadedRun) -> AdaptationResult:
        return assess(
            run.system,
            run.env_steps,
            split,
            n_episodes=n_episodes,
            n_trials=n_trials,
            actions=actions,
            bad_batch=place_of(run, out).bad_batch,
            others=others,
        )

    results = [play(run) for run in runs]
    beside = {line: [play(run) for run in seeds] for line, seeds in references.items()}
    label = runs[0].config.algo + (" looking on" if others is not None else "")
    comparison = compare_runs(label, results, beside)
    rest = list(zip(runs[1:], results[1:], strict=True))
    rest += [pair for line, seeds in references.items() for pair in zip(seeds, beside[line], strict=True)]
    written = [_write_raw(place_of(run, out), result, on) for run, result in rest]
    report = publish(place_of(runs[0], out), runs[0].system, results[0], comparison, tag=tag, on=on)
    return report._replace(is_written=report.is_written and all(written))


def place_of(run: LoadedRun, out: Path | None) -> RunFolder:
    """Where results of a run go: its own folder, or ``<out>/<algo>/<run name>``."""
    return run.folder if out is None else RunFolder(out / run.config.algo / run.folder.path.resolve().name)


def publish(
    folder: RunFolder,
    system: System,
    result: AdaptationResult,
    comparison: Comparison,
    *,
    tag: str = "",
    on: str = "",
) -> Report:
    """Write raw results and pictures into the run's folder; what cannot be written is a warning."""
    is_written = _write_raw(folder, result, on)
    tag = on + tag
    pictures = [folder.figures / f"adaptation-{result.split}{tag}.png"]
    drawn = [save_picture(pictures[0], lambda: adaptation_figure(comparison))]
    latents = result.latents
    if latents is not None and latents.shape[-1] > 0:
        pictures.append(folder.figures / f"task-space-{result.split}{tag}.png")
        drawn.append(save_picture(pictures[-1], lambda: task_space_figure(latents, result.probe, result.tasks)))
    is_own = not result.is_looking_on
    for figure in system.learner.figures() if is_own else ():
        pictures.append(folder.figures / f"{figure.name}{tag}.png")
        drawn.append(save_picture(pictures[-1], partial(sharing_figure, figure)))
    if system.world_model is not None and is_own:
        pictures.append(folder.figures / f"imagination-{result.split}{tag}.png")
        drawn.append(save_picture(pictures[-1], partial(_imagination, system, system.world_model, result.split)))
    shown: list[Path] = [picture for picture, is_drawn in zip(pictures, drawn, strict=True) if is_drawn]
    table = printable(adaptation_table(comparison))
    is_written &= _write(folder, f"{result.split}{tag}.txt", table + "\n")
    return Report("\n".join([table, "", *(f"picture: {path}" for path in shown)]), is_written)


def _imagination(system: System, model: WorldModel, split: str) -> Figure:
    """A real episode on one of the split's first tasks, or its beginning, beside what the model imagines of it."""
    config, family = system.config, system.family
    generator, of_team = (
        torch_generator(config.seed, "evaluation", *whose, split, device=system.device)
        for whose in (("imagination",), ("imagination", "team"))
    )
    env, team = family.make(N_IMAGINED, system.device, generator), Team(system.learner, system.encoder, of_team)
    task = family.task_ids(split).repeat(N_IMAGINED)[:N_IMAGINED].to(system.device)
    n_steps = min(family.spec.episode_steps, HORIZONS_SHOWN * model.config.imagined_steps)
    trial = collect(env, team, task, n_steps, explore=None)
    shown = imagined_beside(model, system.encoder, trial, generator)
    title = imagination_title(family.name, split, N_IMAGINED)
    return imagination_figure(shown, title, model.config.imagined_steps)


def _write_raw(folder: RunFolder, result: AdaptationResult, on: str) -> bool:
    _, n_trials, n_episodes = result.returns.shape
    name = raw_name(result.split, result.env_steps, (n_trials, n_episodes), result.actions, on)
    return _write(folder, name, to_json(result))


def _write(folder: RunFolder, name: str, text: str) -> bool:
    """Whether it was written: what has been played is told anyhow."""
    is_written = False
    with attempt(f"writing {folder.evaluation / name}"):
        write_atomically(folder.evaluation / name, text)
        is_written = True
    return is_written
