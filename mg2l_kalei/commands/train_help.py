"""``mg2l-kalei train --help``: every choice and setting, told without waiting for torch where that can be."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points

from mg2l_kalei.commands.tasks import PLUGINS
from mg2l_kalei.config import render_help
from mg2l_kalei.config.command_line import FLAGS
from mg2l_kalei.config.files import CONFIG_DIR
from mg2l_kalei.config.loading import chosen_sections
from mg2l_kalei.config.rendering import values_as_defaults
from mg2l_kalei.config.written import write_sections, written_sections


def help_lines(words: Sequence[str]) -> list[str]:
    """Every choice and setting; where something is chosen or set, those that apply. Raises ConfigError."""
    text = "" if entry_points(group=PLUGINS) else _written_help(words)
    return [text or _full_help(words)]


def renew_settings() -> None:
    """Write the settings down. To be called where they, or what they come from, have changed: ``make lists``."""
    from mg2l_kalei.training.system import SCHEMA

    write_sections(SCHEMA.sections())


def _written_help(words: Sequence[str]) -> str:
    """By what is written down; empty where that does not tell."""
    sections = written_sections()
    if sections is None or _is_bare(words):
        return "" if sections is None else render_help(sections, [CONFIG_DIR])
    chosen = chosen_sections(words, sections, CONFIG_DIR)
    return "" if chosen is None else render_help(sections, [CONFIG_DIR], chosen)


def _full_help(words: Sequence[str]) -> str:
    from mg2l_kalei.training.plugins import asked, load_plugins, resolve
    from mg2l_kalei.training.system import FOLDERS, SCHEMA

    load_plugins(asked(words))
    chosen = None if _is_bare(words) else values_as_defaults(resolve(words).config)
    return render_help(SCHEMA.sections(), [CONFIG_DIR, *FOLDERS], chosen)


def _is_bare(words: Sequence[str]) -> bool:
    return all(word in FLAGS for word in words)
