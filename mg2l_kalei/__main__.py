"""What is done with trained runs and task families: ``python -m mg2l_kalei --help``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from envs import ENVS
from envs.check import check_family
from envs.core import EnvFailure, TaskFamily, setting
from mg2l_kalei.assessment import assess_runs
from mg2l_kalei.build import CONFIG_DIR, SCHEMA, family_of
from mg2l_kalei.checkpoint import CheckpointError
from mg2l_kalei.config import ConfigError, RunConfig, differences, load
from mg2l_kalei.config.options import option_lines, read_options
from mg2l_kalei.config.run_config import ACTIONS
from mg2l_kalei.config.settings import nearest, problem, to_text
from mg2l_kalei.curves import CurvesOptions, draw_curves
from mg2l_kalei.evaluation.render import write_gif
from mg2l_kalei.filming import film_trial
from mg2l_kalei.saved_run import LoadedRun, load_run
from mg2l_kalei.training_run import reference_folders


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    split: str | None = setting(None, "tasks to play: train, test or ood; null: every split of the family")
    episodes: int | None = setting(None, "episodes per trial; null: the run's eval_episodes", low=1)
    trials: int | None = setting(None, "trials per task; null: the run's eval_trials", low=1)
    actions: str | None = setting(None, "mode or sampled; null: the run's eval_actions", choices=ACTIONS)
    none: tuple[str, ...] = setting((), "folders of runs without task inference; empty: this run's, if it is there")
    oracle: tuple[str, ...] = setting((), "folders of runs that are given the task; empty: this run's, if it is there")
    beside: tuple[str, ...] = setting((), "folders of runs of other recipes: a further line for each")
    best: bool = setting(False, "take the best checkpoint instead of the latest")
    factory: str | None = setting(None, "the runs' env.factory, if they name one: it is run only if it is named here")


@dataclasses.dataclass(frozen=True)
class RenderOptions:
    task: str = setting("0", "name of the task, or its number")
    episodes: int = setting(1, "episodes of the trial", low=1)
    steps: int = setting(300, "that the film has at most, from the trial's start: the GIF grows with them", low=1)
    seed: int = setting(0, "of the trial", low=0)
    best: bool = setting(False, "take the best checkpoint instead of the latest")
    factory: str | None = setting(None, "the runs' env.factory, if they name one: it is run only if it is named here")
    out: str | None = setting(None, "the GIF; null: figures/trial-<task>-<seed>.gif in the run's folder")


def usage() -> str:
    """The text of ``--help``."""
    return "\n".join(
        [
            "Usage: python -m mg2l_kalei COMMAND ... (training: python train.py --help)",
            "",
            "evaluate RUN_DIR [RUN_DIR ...] [KEY=VALUE ...]   how fast a run adapts; several: seeds of one method",
            *option_lines(EvaluateOptions()),
            "",
            "render RUN_DIR [KEY=VALUE ...]   a trial as a GIF, with the targets and what each agent believes",
            *option_lines(RenderOptions()),
            "",
            "curves RUN_DIR [RUN_DIR ...] [KEY=VALUE ...]   what runs logged while they trained: a table and a picture",
            *option_lines(CurvesOptions()),
            "",
            "tasks list                        the task families",
            "tasks show NAME [KEY=VALUE ...]   a family's sizes and tasks, as train.py draws them with these settings",
            "tasks hash NAME [KEY=VALUE ...]   the fingerprint of its tasks",
            "tasks check NAME [KEY=VALUE ...]  does it keep the contract of task families? Exit code 1 if not",
        ]
    )


def evaluate(words: Sequence[str]) -> int:
    """Table, raw results and pictures of adaptation, beside the reference lines."""
    folders, options = read_options(words, EvaluateOptions())
    if not folders:
        raise ConfigError(["evaluate: expected the folder of a run"])
    runs = _seeds(folders, options)
    splits = tuple(runs[0].family.splits)
    if options.split is not None:
        if options.split not in splits:
            reason = f"{runs[0].family.name} has {', '.join(splits)} alone{nearest(options.split, splits)}"
            raise ConfigError([problem("command line", "split", options.split, reason)])
        splits = (options.split,)
    references = _references(runs, options)
    for label, others in _others(runs, options).items():
        if label in references:
            raise ConfigError([f"beside={others[0].folder.path}: there is a line {label} already"])
        references[label] = others
    n_episodes = options.episodes or runs[0].config.eval_episodes
    n_trials = options.trials or runs[0].config.eval_trials
    actions = options.actions or runs[0].config.eval_actions
    for split in splits:
        table = assess_runs(runs, references, split, n_episodes=n_episodes, n_trials=n_trials, actions=actions)
        print("\n" + table)
    print(f"run folder: {runs[0].folder.path}")
    return 0


def _seeds(folders: Sequence[str], options: EvaluateOptions) -> list[LoadedRun]:
    """Runs of one method, loaded. Raises ConfigError where they are anything but seeds of each other."""
    runs = [load_run(folder, best=options.best, factory=options.factory) for folder in folders]
    first, *others = runs
    for run in others:
        differing = differences(dataclasses.replace(first.config, seed=run.config.seed), run.config)
        if differing:
            raise ConfigError([f"{run.folder.path} is no other seed of {first.folder.path}: {' '.join(differing)}"])
    for place, run in enumerate(runs):
        if run.config.seed in [earlier.config.seed for earlier in runs[:place]]:
            raise ConfigError([f"{run.folder.path}: seed {run.config.seed} is given twice"])
    return runs


def _others(runs: Sequence[LoadedRun], options: EvaluateOptions) -> dict[str, Sequence[LoadedRun]]:
    """Runs of other recipes, put together where they are seeds of one another.

    A line is called by its recipe; where another line has that name, also by the settings that differ from it.
    """
    groups: list[list[str]] = []
    firsts: dict[str, RunConfig] = {runs[0].config.algo: runs[0].config}
    labels: list[str] = []
    for folder in options.beside:
        config = load_run(folder, best=options.best, factory=options.factory).config
        kin = next((i for i, label in enumerate(labels) if not _unlike(firsts[label], config)), None)
        if kin is not None:
            groups[kin].append(folder)
            continue
        label = config.algo
        if label in firsts:
            differing = _unlike(firsts[label], config)
            if not differing:
                raise ConfigError([f"beside={folder}: a run like the one evaluated: give it as another seed"])
            label = " ".join([label, *differing])
        firsts[label] = config
        labels.append(label)
        groups.append([folder])
    return {label: _seeds(group, options) for label, group in zip(labels, groups, strict=True)}


def _unlike(first: RunConfig, other: RunConfig) -> list[str]:
    """Settings in which two runs differ, the seed left aside; the recipe's name counts."""
    recipe = [] if first.algo == other.algo else [f"algo={other.algo}"]
    return [*recipe, *differences(dataclasses.replace(first, seed=other.seed), other)]


def _references(runs: Sequence[LoadedRun], options: EvaluateOptions) -> dict[str, Sequence[LoadedRun]]:
    """The reference runs asked for; else those that were trained with every one of ``runs``, and are not these."""
    asked = {line: folders for line, folders in (("none", options.none), ("oracle", options.oracle)) if folders}
    found = [reference_folders(run) for run in runs]
    usual = {line: tuple(str(of[line]) for of in found) for line in found[0] if all(line in of for of in found)}
    own = {run.folder.path.resolve() for run in runs}
    usual = {line: folders for line, folders in usual.items() if not own & {Path(f).resolve() for f in folders}}
    for line, folders in usual.items():
        if line not in asked:
            print(f"reference line {line}: {', '.join(folders)}")
    return {line: _seeds(folders, options) for line, folders in {**usual, **asked}.items()}


def render(words: Sequence[str]) -> int:
    """A trial as a GIF."""
    folders, options = read_options(words, RenderOptions())
    if len(folders) != 1:
        raise ConfigError([f"render: expected the folder of one run, given: {', '.join(folders) or 'none'}"])
    if options.out is not None and Path(options.out).suffix != ".gif":
        raise ConfigError([problem("command line", "out", options.out, "expected a file name that ends in .gif")])
    run = load_run(folders[0], best=options.best, factory=options.factory)
    task = _task_number(run.family, options.task)
    out = Path(options.out or run.folder.figures / f"trial-{task}-{options.seed}.gif")
    film = film_trial(run, task, n_episodes=options.episodes, n_steps=options.steps, seed=options.seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_gif(film, out)
    n_steps = options.episodes * run.family.spec.episode_steps
    if n_steps > options.steps:
        print(f"the first {options.steps} of {n_steps} steps: steps={n_steps} films them all", file=sys.stderr)
    print(out)
    return 0


def _task_number(family: TaskFamily, wish: str) -> int:
    names = [task.name for task in family.tasks]
    if wish in names:
        return names.index(wish)
    if wish.isdecimal() and int(wish) < len(names):
        return int(wish)
    reason = f"{family.name} has tasks 0 to {len(names) - 1}{nearest(wish, names)}"
    raise ConfigError([problem("command line", "task", wish, reason)])


def tasks(words: Sequence[str]) -> int:
    """What families there are, what is in one, and whether it is sound."""
    actions = {"show": _show, "hash": _hash, "check": _check}
    action = words[0] if words else ""
    if action == "list" and len(words) == 1:
        print("\n".join(map(_line, ENVS)))
        return 0
    if action not in actions:
        raise ConfigError([f"tasks {action}: expected list, {', '.join(actions)}{nearest(action, ['list', *actions])}"])
    if len(words) < 2:
        raise ConfigError([f"tasks {action}: expected a family, of {', '.join(ENVS)}"])
    return actions[action](_family(words[1], words[2:]))


def _family(name: str, settings: Sequence[str]) -> TaskFamily:
    """The family as a training run with these settings has it."""
    config = load([f"--env={name}", *settings], SCHEMA, CONFIG_DIR).config
    return family_of(config)


def _line(name: str) -> str:
    """Its summary; of a family that needs settings, which."""
    try:
        return _summary(_family(name, ()))
    except ValueError as error:
        return f"{name:<20}  {error}"


def _summary(family: TaskFamily) -> str:
    spec = family.spec
    counts = ", ".join(f"{len(of_split)} {split}" for split, of_split in family.splits.items())
    actions = f"{spec.action_dim} {'actions' if spec.is_discrete else 'action dimensions'}"
    seen = " (all seen in training)" if family.seen_only else ""
    sizes = f"{spec.n_agents} agents, {actions}, {spec.episode_steps} steps"
    return f"{family.name:<20}  {sizes}; tasks: {counts}{seen}"


def _show(family: TaskFamily) -> int:
    width = max(len(task.name) for task in family.tasks)
    print(_summary(family))
    print(f"version {family.version}, fingerprint {family.fingerprint()}")
    for number, task in enumerate(family.tasks):
        params = " ".join(f"{key}={to_text(value)}" for key, value in task.params.items())
        print(f"{number:>4}  {task.split:<5}  {task.name:<{width}}  {params}".rstrip())
    return 0


def _hash(family: TaskFamily) -> int:
    print(family.fingerprint())
    return 0


def _check(family: TaskFamily) -> int:
    problems = check_family(family)
    print("\n".join(problems) or f"{family.name}: no problem found")
    return 1 if problems else 0


COMMANDS = {"evaluate": evaluate, "render": render, "curves": draw_curves, "tasks": tasks}


def main(argv: Sequence[str]) -> int:
    """Exit code 0: done; 1: it failed, or ``tasks check`` found problems; 2: bad input, nothing was written."""
    if not argv or {"-h", "--help", "help"} & set(argv):
        print(usage(), file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    command, *words = argv
    try:
        if command not in COMMANDS:
            raise ConfigError([f"{command}: expected {', '.join(COMMANDS)}{nearest(command, COMMANDS)}"])
        return COMMANDS[command](words)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    except (CheckpointError, EnvFailure, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
