"""The texts of ``--help`` and ``--print-config``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mg2l_kalei.config.files import DEFAULTS, names_in
from mg2l_kalei.config.layers import Sections, dotted
from mg2l_kalei.config.loading import Resolved
from mg2l_kalei.config.run_config import AXES, GROUPS, RunConfig, flat, to_dict
from mg2l_kalei.config.settings import Rule, describe, rules, to_text

_USAGE = """\
--algo may be the path of a recipe's file; --config=RUN_DIR/config.yaml begins with that run's settings instead.
Options and settings come in any order. A setting's name may be cut short from the left while it stays unique
(gamma=0.95 for learner.gamma=0.95). AXIS=KIND chooses a kind. Weakest first: default, algo file, env file, expt file,
command line. --help with choices (--help --env=NAME --algo=NAME) shows what applies to them, with the values that they
come to. --print-config prints the resolved configuration with the source of each value, and trains nothing.
"""


def render_help(sections: Sections, folders: Sequence[Path], chosen: Sections | None = None) -> str:
    """Every choice, and every setting with its default, meaning and legal values.

    ``folders``: where YAML files lie, in ``algo`` and ``expt``. Of what was ``chosen``, its kinds alone, and their
    settings with the values that they come to.
    """
    names = {kind: names_in(*(folder / kind for folder in folders)) for kind in ("expt", "algo")}
    names["env"] = tuple(sections["env"])
    options = [f"  --{key}=  (default {DEFAULTS[key]})  {', '.join(valid)}" for key, valid in names.items()]
    return "\n".join([_USAGE, "Choices", *options, *_shown(sections if chosen is None else chosen)])


def values_as_defaults(config: RunConfig) -> Sections:
    """The settings of a config's kinds; their values stand as defaults."""
    axes = {axis: {config.kinds[axis]: rules(getattr(config, axis))} for axis in AXES if axis in config.kinds}
    return {"": {"": rules(config)}, **axes, **{name: {"": rules(getattr(config, name))} for name in GROUPS}}


def render_sources(resolved: Resolved) -> str:
    """The resolved config, a line per setting, each with its source."""
    lines = {key: f"{key}={to_text(value)}" for key, value in flat(to_dict(resolved.config)).items()}
    width = max(len(line) for line in lines.values())
    return "\n".join(f"{line:<{width}}  # {resolved.sources[key]}" for key, line in lines.items())


def _shown(sections: Sections) -> Iterator[str]:
    for section, kinds in sections.items():
        yield f"\n{section or 'run'}{'  one of ' + ', '.join(kinds) if len(kinds) > 1 else ''}"
        for names, settings in _alike(kinds):
            if names != [""]:
                yield f"  {section}={'|'.join(names)}{'' if settings else '  no settings'}"
            yield from (_line(dotted(section, name), rule) for name, rule in settings.items())


def _alike(kinds: Mapping[str, Mapping[str, Rule]]) -> list[tuple[list[str], Mapping[str, Rule]]]:
    """Kinds put together that have the same settings with the same defaults."""
    together: list[tuple[list[str], Mapping[str, Rule]]] = []
    for kind, settings in kinds.items():
        same = next((names for names, others in together if others == settings), None)
        if same is None:
            together.append(([kind], settings))
        else:
            same.append(kind)
    return together


def _line(key: str, rule: Rule) -> str:
    return f"    {key}={to_text(rule.default)}  {rule.meaning} ({describe(rule)})"
