"""The texts of ``--help`` and ``--print-config``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from mg2l_kalei.config.files import DEFAULTS, names_in
from mg2l_kalei.config.layers import Sections, dotted
from mg2l_kalei.config.loading import Resolved
from mg2l_kalei.config.run_config import RunConfig, Schema, flat, to_dict
from mg2l_kalei.config.settings import Rule, describe, rules, to_text

_USAGE = """\
--algo may be the path of a recipe's file; --config=RUN_DIR/config.yaml begins with that run's settings instead.
Options and settings come in any order. A setting's name may be cut short from the left while it stays unique
(gamma=0.95 for learner.gamma=0.95). AXIS=KIND chooses a kind. Weakest first: default, algo file, env file, expt file,
command line. --help with choices (--help --env=NAME --algo=NAME) shows what applies to them, with the values that they
come to. --print-config prints the resolved configuration with the source of each value, and trains nothing.
"""


def render_help(schema: Schema, config_dir: Path, chosen: Resolved | None = None) -> str:
    """Every choice, and every setting with its default, meaning and legal values.

    Of what was ``chosen``, its kinds alone, and their settings with the values that they come to.
    """
    folders = (config_dir, *schema.folders)
    names = {kind: names_in(*(folder / kind for folder in folders)) for kind in ("expt", "algo")}
    names["env"] = tuple(schema.axes["env"])
    options = [f"  --{key}=  (default {DEFAULTS[key]})  {', '.join(valid)}" for key, valid in names.items()]
    sections = schema.sections() if chosen is None else _applying(schema, chosen.config)
    return "\n".join([_USAGE, "Choices", *options, *_shown(sections)])


def render_sources(resolved: Resolved) -> str:
    """The resolved config, a line per setting, each with its source."""
    lines = {key: f"{key}={to_text(value)}" for key, value in flat(to_dict(resolved.config)).items()}
    width = max(len(line) for line in lines.values())
    return "\n".join(f"{line:<{width}}  # {resolved.sources[key]}" for key, line in lines.items())


def _applying(schema: Schema, config: RunConfig) -> Sections:
    """The settings of the chosen kinds; their values stand as defaults."""
    parts = {axis: {config.kinds[axis]: rules(getattr(config, axis))} for axis in schema.axes}
    return {"": {"": rules(config)}, **parts, **{name: {"": rules(getattr(config, name))} for name in schema.groups}}


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
