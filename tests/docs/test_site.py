"""Is the site whole: every link, anchor and picture, every setting and public module, and nothing from elsewhere?"""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from mg2l_kalei.training.system import SCHEMA
from tests.docs.written import DOCS, PAGES, ROOT

Site = dict[Path, str]  # page -> its HTML
LINK = re.compile(r"\[[^\]]*\]\(([^)#]*)(?:#[^)]*)?\)")


def build_site(out: Path, **changes: Any) -> Site:
    """Build strictly: a warning is an error. Raises Abort."""
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(out), strict=True, **changes)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    pages = (path for path in out.rglob("*.html") if path.name != "404.html")  # whose links begin at the host
    return {path: path.read_text() for path in pages}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        return build_site(tmp_path_factory.mktemp("site"))


def broken(site: Site) -> list[str]:
    """Links and pictures within the site that lead nowhere."""
    anchors = {page: set(re.findall(r'\bid="([^"]+)"', html)) for page, html in site.items()}
    wrong = []
    for page, html in site.items():
        for target in set(re.findall(r'\b(?:href|src)="([^"]*)"', html)):
            place, _, anchor = unquote(unescape(target)).partition("#")
            if re.match(r"\w+:|//", place):
                continue
            path = (page.parent / place).resolve() if place else page
            if not path.exists() or (anchor and path in site and anchor not in anchors[path] | {"__skip"}):
                wrong.append(f"{page.name}: {target}")
    return wrong


def test_every_link_anchor_and_picture_is_there(site: Site) -> None:
    assert broken(site) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(text := '<h1 id="here"></h1><a href="#here"></a><a href="#there"></a><img src="none.png">')
    assert sorted(broken({page: text})) == ["page.html: #there", "page.html: none.png"]


def test_a_page_with_a_bad_link_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("# Page\n\n[nowhere](#nowhere)\n")
    with pytest.raises(Abort, match="1 warning"):
        build_site(
            tmp_path / "out", docs_dir=str(tmp_path / "docs"), nav=["index.md"], hooks=[], plugins=[], extra_css=[]
        )


def test_nothing_is_fetched_from_elsewhere(site: Site) -> None:
    fetched = r"""<(?:script|img|iframe)[^>]*\bsrc=["']?(?:https?:)?//[^>]*|<link[^>]*\bhref=["']?(?:https?:)?//[^>]*"""
    assert [found for html in site.values() for found in re.findall(fetched, html) if "canonical" not in found] == []


def test_every_page_is_in_the_menu_and_every_setting_is_described(site: Site) -> None:
    texts = {path.name: html for path, html in site.items()}
    menu = texts["index.html"]
    assert [page.stem for page in DOCS.rglob("*.md") if f"{page.stem}.html" not in menu] == []
    keys = [
        f"{section}.{name}" if section else name
        for section, kinds in SCHEMA.sections().items()
        for rules in kinds.values()
        for name in rules
    ]
    assert [key for key in set(keys) if f"<code>{key}</code>" not in texts["settings.html"]] == []
    assert 'id="mg2l_kalei.learners.base.Learner"' in texts["mg2l_kalei.learners.html"]


def test_links_of_files_beside_the_docs_lead_somewhere() -> None:
    for page in PAGES:
        targets = LINK.findall(page.read_text())
        assert [t for t in targets if t and ":" not in t and not (page.parent / t).exists()] == [], page


def test_the_readme_is_one_page_whose_figures_are_those_of_the_results() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.encode()) < 10_000
    results = "".join(path.read_text() for path in (DOCS / "results").glob("*.md"))
    figures = re.findall(r"(-?\d\.\d\d) (\[-?\d\.\d\d, -?\d\.\d\d\])", readme)
    assert len(figures) > 10
    for score, interval in figures:
        assert re.search(rf"\| [-\d.]+, {score}, [-\d.]+ {re.escape(interval)} \|", results), (score, interval)
