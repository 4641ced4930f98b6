"""``python -m mg2l_kalei render``: a trial as a GIF."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from envs.core import TaskFamily, setting
from mg2l_kalei.commands.filming import film_imagined, film_trial
from mg2l_kalei.config import ConfigError
from mg2l_kalei.config.options import file_named, only_run, read_options
from mg2l_kalei.config.settings import nearest, problem
from mg2l_kalei.disk.output import say
from mg2l_kalei.evaluation.render import write_gif
from mg2l_kalei.training.saved_run import load_run


@dataclasses.dataclass(frozen=True)
class RenderOptions:
    task: str = setting("0", "name of the task, or its number")
    episodes: int = setting(1, "episodes of the trial", low=1)
    steps: int = setting(300, "that the film has at most, from the trial's start: the GIF grows with them", low=1)
    seed: int = setting(0, "of the trial", low=0)
    imagined: bool = setting(False, "one episode, and light where the run's world model imagines its agents meanwhile")
    best: bool = setting(False, "take the best checkpoint instead of the latest")
    factory: str | None = setting(None, "the runs' env.factory, if they name one: it is run only if it is named here")
    plugins: tuple[str, ...] = setting((), "the runs' plugins, if they name some: none is run that is not named here")
    out: str | None = setting(None, "the GIF; null: figures/trial-<task>-<seed>.gif (imagined-...) in the run's folder")


def render(words: Sequence[str]) -> int:
    """A trial as a GIF."""
    folders, options = read_options(words, RenderOptions())
    path, named = only_run("render", folders), file_named(options.out, ".gif")
    run = load_run(path, best=options.best, factory=options.factory, plugins=options.plugins, n_workers=None)
    if options.imagined and options.episodes > 1:
        reason = "one episode is imagined, from its start on"
        raise ConfigError([problem("command line", "episodes", options.episodes, reason)])
    if named is None:
        run.folder.refuse_links()
    task = _task_number(run.family, options.task)
    kind = "imagined" if options.imagined else "trial"
    out = named or run.folder.figures / f"{kind}-{task}-{options.seed}.gif"
    if options.imagined:
        write_gif(film_imagined(run, task, n_steps=options.steps, seed=options.seed), out)
        say(str(out))
        return 0
    write_gif(film_trial(run, task, n_episodes=options.episodes, n_steps=options.steps, seed=options.seed), out)
    n_steps = options.episodes * run.family.spec.episode_steps
    if n_steps > options.steps:
        say(f"the first {options.steps} of {n_steps} steps: steps={n_steps} films them all", is_error=True)
    say(str(out))
    return 0


def _task_number(family: TaskFamily, wish: str) -> int:
    names = [task.name for task in family.tasks]
    if wish in names:
        return names.index(wish)
    if wish.isdecimal() and int(wish) < len(names):
        return int(wish)
    reason = f"{family.name} has tasks 0 to {len(names) - 1}{nearest(wish, names)}"
    raise ConfigError([problem("command line", "task", wish, reason)])
