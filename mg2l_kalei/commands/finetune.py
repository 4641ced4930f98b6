"""``mg2l-kalei finetune``: what training on each task alone comes to, as lines of a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from envs.core import setting
from mg2l_kalei.config import ConfigError, to_yaml
from mg2l_kalei.config.options import only_run, read_options
from mg2l_kalei.config.settings import nearest, problem
from mg2l_kalei.disk.durable import write_atomically, write_json
from mg2l_kalei.disk.output import say
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.evaluation.results import AdaptationResult, raw_name, to_json
from mg2l_kalei.evaluation.statistics import aggregate
from mg2l_kalei.training.fine_tuning import fine_tuned_result
from mg2l_kalei.training.saved_run import LoadedRun, describe_tasks, load_run


@dataclasses.dataclass(frozen=True)
class FinetuneOptions:
    steps: tuple[int, ...] = setting((10_000,), "environment steps of training on each task; several: each anew", low=1)
    scratch: bool = setting(False, "train a fresh system instead of a copy of the run's")
    split: str | None = setting(None, "tasks: train, test or ood; null: all that are held out, or train where none is")
    best: bool = setting(False, "begin with the best checkpoint instead of the latest")
    factory: str | None = setting(None, "the run's env.factory, if it names one: it is run only if it is named here")
    plugins: tuple[str, ...] = setting((), "the run's plugins, if it names some: none is run that is not named here")


def finetune(words: Sequence[str]) -> int:
    """Raw results of each split, in a folder of their own within the run's, which ``report`` reads as a method's."""
    folders, options = read_options(words, FinetuneOptions())
    path = only_run("finetune", folders)
    run = load_run(path, best=options.best, factory=options.factory, plugins=options.plugins, n_workers=None)
    if not options.steps:
        raise ConfigError([problem("command line", "steps", options.steps, "expected one number or several")])
    splits = tuple(run.family.splits)
    if options.split is not None and options.split not in splits:
        reason = f"{run.family.name} has {', '.join(splits)} alone{nearest(options.split, splits)}"
        raise ConfigError([problem("command line", "split", options.split, reason)])
    run.folder.refuse_links()
    held_out = tuple(split for split in splits if split != "train")
    for split in (options.split,) if options.split else held_out or splits:
        for steps in sorted(set(options.steps)):  # the fewest first, which may be refused
            result = fine_tuned_result(run, split, steps, fresh=options.scratch)
            made = result.env_steps - (0 if options.scratch else run.env_steps)
            place = _write(run, result, f"{'scratch' if options.scratch else 'finetune'}-{made}")
            returns = " ".join(f"{value:.4g}" for value in aggregate(result.returns[None]))
            say(f"{result.split_label}: return of each episode {returns}, after {made:,} steps on each task alone")
            say(f"for a report: {place.path}")
    return 0


def _write(run: LoadedRun, result: AdaptationResult, name: str) -> RunFolder:
    """The folder is what a report takes for a run: settings, tasks and raw results."""
    place = RunFolder(run.folder.path / name)
    raw = raw_name(result.split, result.env_steps, result.returns.shape[1:], result.actions)
    write_atomically(place.evaluation / raw, to_json(result))
    write_json(place.tasks, describe_tasks(run.family))
    write_atomically(place.config, to_yaml(dataclasses.replace(run.config, algo=f"{run.config.algo}+{name}")))
    return place
