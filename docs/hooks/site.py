"""What the site has beside the pages in docs/: README and changelog, all settings, and the API, made from the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from mg2l_kalei.config.settings import Rule, describe, to_text
from mg2l_kalei.training.system import SCHEMA

ROOT = Path(__file__).parents[2]
OF_THE_PROJECT = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Names with an asterisk in the menu become the pages that they fit."""
    pages = [path.relative_to(config.docs_dir) for path in Path(config.docs_dir).rglob("*.md")]
    pages += [Path(name) for name in api_pages()]
    pages.sort(key=lambda page: page.with_suffix("").parts)
    config.nav = [_expanded(entry, pages) for entry in config.nav or []]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that no file in docs/ holds."""
    made = {name: of_the_project(ROOT / source) for name, source in OF_THE_PROJECT.items()}
    made |= {"reference/settings.md": "\n".join(settings_page()), **api_pages()}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Keep intervals in one line."""
    return re.sub(r"(\[-?[\d.,]+,) (-?[\d.,]+\])", "\\1\N{NO-BREAK SPACE}\\2", markdown)


def of_the_project(path: Path) -> str:
    """The text of a file beside docs/, its links as from within docs/."""
    text = path.read_text().replace("](docs/", "](")
    for name, source in OF_THE_PROJECT.items():
        text = text.replace(f"]({source}", f"]({name}")
    return text


def settings_page() -> Iterator[str]:
    """Lines of the page of all settings: a table for each section, and for kinds that have the same settings."""
    yield "# Settings\n"
    yield "Every setting with its default, its meaning and what it may be, made from the code. On the command line they"
    yield "are `SECTION.NAME=VALUE`, or `NAME=VALUE` where that is unique; recipes and families change defaults"
    yield "(`config/`), and `python train.py --print-config` says which."
    for section, kinds in SCHEMA.sections().items():
        yield f"\n## {section or 'run'}\n"
        for names, settings in _alike(kinds):
            if names != [""]:
                yield f"\n### {section}={', '.join(names)}\n" if len(names) < 3 else _of_many(section, names)
            yield from _table(section, settings) if settings else ["It has no settings."]


def api_pages() -> dict[str, str]:
    """A page for each package of ours: its modules, in the order of the alphabet."""
    folders = [path.parent for top in ("mg2l_kalei", "envs") for path in (ROOT / top).rglob("__init__.py")]
    return dict(_api_page(folder) for folder in sorted(folders))


def _api_page(folder: Path) -> tuple[str, str]:
    package = ".".join(folder.relative_to(ROOT).parts)
    modules = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("__"))
    tree = ast.parse((folder / "__init__.py").read_text())  # what it merely exports is shown where it is defined
    own = [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    options = f"options: {{show_root_heading: false, show_root_toc_entry: false, members: {own}}}"
    texts = [f"# {package}", f"::: {package}\n    {options}", *(f"::: {package}.{module}" for module in modules)]
    return f"reference/api/{package}.md", "\n\n".join(texts) + "\n"


def _expanded(entry: Any, pages: list[Path]) -> Any:
    if isinstance(entry, dict):
        return {title: _expanded(inner, pages) for title, inner in entry.items()}
    if isinstance(entry, list):
        return [_expanded(inner, pages) for inner in entry]
    return [str(page) for page in pages if page.match(entry)] if "*" in entry else entry


def _alike(kinds: Mapping[str, Mapping[str, Rule]]) -> list[tuple[list[str], Mapping[str, Rule]]]:
    """Kinds put together that have the same settings with the same defaults."""
    together: dict[str, tuple[list[str], Mapping[str, Rule]]] = {}
    for kind, settings in kinds.items():
        together.setdefault(repr(settings), ([], settings))[0].append(kind)
    return list(together.values())


def _of_many(section: str, names: list[str]) -> str:
    """A heading for many kinds: the first, and below it all of them."""
    return f"\n### {section}={names[0]} and others\n\nOf {', '.join(f'`{name}`' for name in names)}:\n"


def _table(section: str, settings: Mapping[str, Rule]) -> Iterator[str]:
    yield "| setting | default | meaning | may be |\n|---|---|---|---|"
    for name, rule in settings.items():
        key = f"{section}.{name}" if section else name
        cells = [f"`{key}`", f"`{to_text(rule.default)}`" if rule.default != "" else "", rule.meaning, describe(rule)]
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|').replace('<', '&lt;') for cell in cells)} |"
