"""What the documentation says: its texts, its commands and its examples."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
PROGRAM = re.compile(r"(?:\.venv/bin/)?(?:python (?:train\.py|-m [\w.]+|[\w/]+\.py)|make \w+|mg2l-kalei(?= ))")


def code_blocks(text: str, language: str = "") -> list[str]:
    """Fenced blocks of a language; those of commands have none."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for name, block in fenced if name == language]


def commands(text: str) -> list[list[str]]:
    """Every command of ours in a page, in blocks and in running text, as words."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in code_blocks(text) for line in block.replace("\\\n", " ").splitlines()]
    lines += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    return [
        shlex.split(re.sub(r"\$\([^)]*\)", "RUN_DIR", line), comments=True) for line in lines if PROGRAM.match(line)
    ]
