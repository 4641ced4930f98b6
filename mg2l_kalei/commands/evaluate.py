"""``python -m mg2l_kalei evaluate``: how fast runs adapt, beside their reference lines."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from envs.core import setting
from mg2l_kalei.commands.naming import as_name, digest, of_family
from mg2l_kalei.config import ConfigError, RunConfig, differences
from mg2l_kalei.config.options import legal_options, noting
from mg2l_kalei.config.run_config import ACTIONS
from mg2l_kalei.config.settings import nearest, problem
from mg2l_kalei.disk.durable import replacing
from mg2l_kalei.disk.output import say
from mg2l_kalei.training.assessment import Others, assess_runs, at_random, place_of, team_of
from mg2l_kalei.training.plan import reference_folders
from mg2l_kalei.training.saved_run import LoadedRun, load_run
from mg2l_kalei.training.system import SCHEMA
from mg2l_kalei.training.transfer import transferred

# What a run of a reference line is: its encoder, and whether its memory lasts for the trial.
LINES = {"none": ("none", False), "oracle": ("oracle", False), "rl2": ("none", True)}


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    split: str | None = setting(None, "tasks to play: train, test or ood; null: every split of the family")
    episodes: int | None = setting(None, "episodes per trial; null: the run's eval_episodes", low=1)
    trials: int | None = setting(None, "trials per task; null: the run's eval_trials", low=1)
    actions: str | None = setting(None, "mode or sampled; null: the run's eval_actions", choices=ACTIONS)
    none: tuple[str, ...] = setting((), "folders of runs without task inference; empty: this run's, if it is there")
    oracle: tuple[str, ...] = setting((), "folders of runs that are given the task; empty: this run's, if it is there")
    rl2: tuple[str, ...] = setting((), "folders of runs whose memory alone lasts for the trial (--algo=rl2)")
    beside: tuple[str, ...] = setting((), "folders of runs of other recipes: a further line for each")
    watch: str | None = setting(
        None, "random, or the folder of a run: that team acts, and the encoder looks on; null: the run's own team acts"
    )
    best: bool = setting(False, "take the best checkpoint instead of the latest")
    factory: str | None = setting(None, "the runs' env.factory, if they name one: it is run only if it is named here")
    plugins: tuple[str, ...] = setting((), "the runs' plugins, if they name some: none is run that is not named here")
    env: str | None = setting(None, "another family, to play its tasks (env.KEY=VALUE sets it); null: the run's own")
    out: str | None = setting(None, "folder for all that is written, <algo>/<run name> in it; null: the runs' folders")


def evaluate(words: Sequence[str]) -> int:
    """Table, raw results and pictures of adaptation, beside the reference lines.

    Exit code 1 where raw results or table could not be written; they are printed anyhow.
    """
    of_env = [word for word in words if word.removeprefix("--").startswith("env.")]
    folders, options, problems = legal_options([word for word in words if word not in of_env], EvaluateOptions())
    if of_env and options.env is None:
        problems.append(f"command line: {' '.join(of_env)}: settings of another family, expected env=FAMILY too")
    if not folders:
        raise ConfigError([*problems, "evaluate: expected the folder of a run"])
    trained: Sequence[LoadedRun] = ()
    runs: Sequence[LoadedRun] = ()
    with noting(problems):
        trained = _seeds(folders, options)
        runs = _on(trained, options, of_env)
        splits = _splits(runs[0], options)
    references: dict[str, Sequence[LoadedRun]] = {}
    with noting(problems):
        references = _lines(trained, options, of_env) if trained and options.watch is None else {}
        others = _watched(runs, options, of_env) if runs else None
    if problems:
        raise ConfigError(problems)
    out = None if options.out is None else _prepared(Path(options.out), [*runs, *chain(*references.values())])
    tag = _tag(runs, references, options, others)
    on = of_family(options.env, of_env)
    if on:
        say(f"transfer: trained on {trained[0].family.name}, evaluated on tasks of {options.env}")
    is_written = True
    how = _how(options, runs[0].config)
    for split in splits:
        report = assess_runs(runs, references, split, **how, out=out, tag=tag, on=on, others=others)
        say("\n" + report.text)
        is_written &= report.is_written
    say(f"run folder: {place_of(runs[0], out).path}")
    return 0 if is_written else 1


def _how(options: EvaluateOptions, config: RunConfig) -> dict[str, Any]:
    """How much is played, and with what actions."""
    return {
        "n_episodes": options.episodes or config.eval_episodes,
        "n_trials": options.trials or config.eval_trials,
        "actions": options.actions or config.eval_actions,
    }


def _splits(run: LoadedRun, options: EvaluateOptions) -> tuple[str, ...]:
    """Those to play."""
    splits = tuple(run.family.splits)
    if options.split is None:
        return splits
    if options.split not in splits:
        reason = f"{run.family.name} has {', '.join(splits)} alone{nearest(options.split, splits)}"
        raise ConfigError([problem("command line", "split", options.split, reason)])
    return (options.split,)


def _lines(
    trained: Sequence[LoadedRun], options: EvaluateOptions, of_env: Sequence[str]
) -> dict[str, Sequence[LoadedRun]]:
    """What the runs stand beside, on the family asked for, by name."""
    problems: list[str] = []
    references: dict[str, Sequence[LoadedRun]] = {}
    others: dict[str, Sequence[LoadedRun]] = {}
    with noting(problems):
        references = {line: _on(of, options, of_env) for line, of in _references(trained, options).items()}
    own = trained[0]
    if own.config.algo in references:
        problems.append(f"{own.folder.path} is evaluated: it cannot be the line {own.config.algo} as well")
    with noting(problems):
        others = {label: _on(of, options, of_env) for label, of in _others(trained, options).items()}
    twice = [label for label in others if label in references]
    problems += [f"beside={others[label][0].folder.path}: there is a line {label} already" for label in twice]
    if problems:
        raise ConfigError(problems)
    return {**references, **others}


def _watched(runs: Sequence[LoadedRun], options: EvaluateOptions, of_env: Sequence[str]) -> Others | None:
    """Who acts while the runs' encoders look on; None: their own teams act."""
    if options.watch is None:
        return None
    first, reasons = runs[0], list[str]()
    problems: list[str] = []
    if first.system.encoder.local_dim == 0 or first.system.encoder.is_told_task:
        reasons.append(f"{first.folder.path} infers no task")
    if len(runs) > 1:  # whose tasks may be others
        reasons.append("expected a single run that looks on")
    if given := [name for name in ("none", "oracle", "rl2", "beside", "actions") if getattr(options, name)]:
        reasons.append(f"expected no {given[0]}=: another team acts, as it is evaluated, and stands beside nobody")
    others = at_random(first.system)
    if options.watch != "random" and not Path(options.watch).is_dir():
        reasons.append("expected random, or a run's folder")
    elif options.watch != "random":
        with noting(problems):
            (acting,) = _on([_load(options.watch, options)], options, of_env)
            others = team_of(acting)
            if (acting.family.fingerprint(), acting.family.spec) != (first.family.fingerprint(), first.family.spec):
                reasons.append(f"its tasks, or sizes of what is seen and done, are not those of {first.folder.path}")
    if problems or reasons:
        raise ConfigError([*problems, *(problem("command line", "watch", options.watch, reason) for reason in reasons)])
    return others


def _tag(
    runs: Sequence[LoadedRun],
    references: Mapping[str, Sequence[LoadedRun]],
    options: EvaluateOptions,
    others: Others | None,
) -> str:
    """Ends names of files: what is evaluated otherwise than at the end of the run; empty: nothing is."""
    own = runs[0].config
    n_trials, n_episodes = options.trials or own.eval_trials, options.episodes or own.eval_episodes
    parts = [f"{n_trials}x{n_episodes}"] if (n_trials, n_episodes) != (own.eval_trials, own.eval_episodes) else []
    parts += [options.actions] if options.actions not in (None, own.eval_actions) else []
    parts += [] if others is None else [others.name.replace(" ", "-")]
    parts += ["best"] * options.best
    parts += ["seeds-" + "-".join(str(run.config.seed) for run in runs)] * (len(runs) > 1)
    asked = {name: getattr(options, name) for name in ("none", "oracle", "rl2", "beside")}
    if len(runs) > 1 or any(asked.values()):
        folders = [[str(run.folder.path.resolve()) for run in of] for of in (runs, *references.values())]
        lines = as_name("-".join(references)) if references else "none"
        parts.append(f"beside-{lines}-{digest([[*references], folders])}")
    return "".join(f"-{part}" for part in parts)


def _on(runs: Sequence[LoadedRun], options: EvaluateOptions, settings: Sequence[str]) -> Sequence[LoadedRun]:
    """The runs on the family asked for."""
    return runs if options.env is None else [transferred(run, options.env, settings) for run in runs]


def _prepared(out: Path, runs: Sequence[LoadedRun]) -> Path:
    """The folder, made and tried before anything is played. Raises ConfigError where results have no place in it."""
    places = Counter(place_of(run, out).path for run in runs)
    for place, count in places.items():
        if count > 1:
            raise ConfigError([problem("command line", "out", out, f"{count} runs would write into {place}")])
        try:
            with replacing(place / "writable") as temporary:
                temporary.touch()
            (place / "writable").unlink()
        except OSError as error:
            raise ConfigError([problem("command line", "out", out, f"not writable: {error}")]) from error
    return out


def _load(folder: str, options: EvaluateOptions) -> LoadedRun:
    return load_run(folder, best=options.best, factory=options.factory, plugins=options.plugins, n_workers=None)


def _seeds(folders: Sequence[str], options: EvaluateOptions) -> list[LoadedRun]:
    """Runs of one method, loaded. Raises ConfigError where they are anything but seeds of each other."""
    runs: list[LoadedRun] = []
    problems: list[str] = []
    for folder in folders:
        with noting(problems):
            runs.append(_load(folder, options))
    if problems:
        raise ConfigError(problems)
    first, *others = runs
    for run in others:
        differing = differences(dataclasses.replace(first.config, seed=run.config.seed), run.config, SCHEMA)
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
        config = _load(folder, options).config
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
    return [*recipe, *differences(dataclasses.replace(first, seed=other.seed), other, SCHEMA)]


def _references(runs: Sequence[LoadedRun], options: EvaluateOptions) -> dict[str, Sequence[LoadedRun]]:
    """The reference runs asked for; else those that were trained with every one of ``runs``, and are not these."""
    lines = {"none": options.none, "oracle": options.oracle, "rl2": options.rl2}
    asked = {line: folders for line, folders in lines.items() if folders}
    found = [reference_folders(run) for run in runs]
    usual = {line: tuple(str(of[line]) for of in found) for line in found[0] if all(line in of for of in found)}
    own = {run.folder.path.resolve() for run in runs}
    if options.env is not None:
        usual.pop("oracle", None)  # it is given tasks of its own family
    usual = {line: folders for line, folders in usual.items() if not own & {Path(f).resolve() for f in folders}}
    for line, folders in usual.items():
        if line not in asked:
            say(f"reference line {line}: {', '.join(folders)}")
    references: dict[str, Sequence[LoadedRun]] = {}
    problems: list[str] = []
    for line, folders in {**usual, **asked}.items():
        with noting(problems):
            references[line] = _seeds(folders, options)
            _refuse_other_line(line, references[line][0])
    if problems:
        raise ConfigError(problems)
    return references


def _refuse_other_line(line: str, run: LoadedRun) -> None:
    """Scores are read off these lines: another run under their name would be published as them. Raises ConfigError."""
    encoder, remembers = LINES[line]
    kind, memory = run.config.kinds["encoder"], run.config.network.memory
    if (kind, memory == "trial") != (encoder, remembers):
        wanted = f"encoder.kind={encoder} and network.memory={'trial' if remembers else 'none or episode'}"
        reason = f"has encoder.kind={kind} and network.memory={memory}, expected {wanted}"
        raise ConfigError([problem("command line", line, run.folder.path, reason)])
