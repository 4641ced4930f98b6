"""Settings of all kinds, written down: to find them out takes seconds, as the classes that they configure need torch.

The file begins with a digest of each source that settings may come from, so that it is not believed where one has
changed since; a line each, so that changes of several people merge as those of the sources do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mg2l_kalei.config.layers import Sections
from mg2l_kalei.config.settings import Rule

WRITTEN = Path(__file__).with_name("settings.txt")
_ROOT = Path(__file__).resolve().parents[2]
# Of settings, their limits and defaults, and of what makes rules of them.
_FOLDERS = ("config", "disk", "buffers", "losses", "sharing", "networks", "encoders", "learners", "world_models")
_SCALARS = {scalar.__name__: scalar for scalar in (bool, int, float, str)}


def write_sections(sections: Sections) -> None:
    """To be called where settings, or sources of them, have changed: ``make lists``."""
    WRITTEN.write_text("\n".join([*_digests(), "", *_lines(sections), ""]), encoding="utf-8")


def written_sections() -> Sections | None:
    """The settings as they were written down; None where their sources are others now, or nothing was written."""
    if not WRITTEN.exists():
        return None
    digests, _, lines = WRITTEN.read_text(encoding="utf-8").partition("\n\n")
    return _sections(lines.splitlines()) if digests.splitlines() == list(_digests()) else None


def _digests() -> Iterator[str]:
    package = _ROOT / "mg2l_kalei"
    folders = [_ROOT / "envs", *(package / name for name in _FOLDERS)]
    for path in (*sorted(path for folder in folders for path in folder.rglob("*.py")), package / "training/system.py"):
        yield f"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]} {path.relative_to(_ROOT).as_posix()}"


def _lines(sections: Sections) -> Iterator[str]:
    """``[section, kind, {setting: rule}]`` is cut in lines: one for the kind, one for each of its settings."""
    for section, kinds in sections.items():
        for kind, settings in kinds.items():
            yield json.dumps([section, kind])
            yield from (json.dumps([name, _plain(rule)]) for name, rule in settings.items())


def _sections(lines: Iterable[str]) -> Sections:
    sections: dict[str, dict[str, dict[str, Rule]]] = {}
    for first, second in map(json.loads, lines):
        if isinstance(second, str):
            settings = sections.setdefault(first, {}).setdefault(second, {})
        else:
            settings[first] = _rule(second)
    return sections


def _plain(rule: Rule) -> dict[str, Any]:
    """What of a rule is not usual, as JSON can hold it."""
    usual = Rule(rule.scalar)._asdict()
    plain = {name: value for name, value in rule._asdict().items() if value != usual[name]}
    return {**plain, "scalar": rule.scalar.__name__, **({"from_file": True} if rule.from_file else {})}


def _rule(plain: dict[str, Any]) -> Rule:
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()}
    fields["scalar"] = _SCALARS[plain["scalar"]]
    if "from_file" in plain:
        fields["from_file"] = _unknown
    return Rule(**fields)


def _unknown(text: str) -> Any:
    raise ValueError("what reads this file is not written down")
