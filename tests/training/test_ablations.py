"""Is each ablation of the paper a setting or two on top of its recipe, and does it train?"""

from __future__ import annotations

import dataclasses
import math
import re

import pytest

from mg2l_kalei.encoders.objectives import OBJECTIVES
from mg2l_kalei.encoders.poolings import POOLINGS
from tests.docs.written import DOCS
from tests.training.trainers import load_words, make_trainer, tiny

GUIDE = (DOCS / "guides/encoders.md").read_text()
ABLATIONS = re.findall(r"\| `(encoder\.\w+=[^`]+)` \|", GUIDE.partition("## The paper's ablations")[2])


def test_the_guide_lists_what_the_paper_compared() -> None:
    assert len(ABLATIONS) == 11
    assert [name for name in (*OBJECTIVES, *POOLINGS) if f"| `{name}` |" not in GUIDE] == []


@pytest.mark.parametrize("setting", ABLATIONS)
def test_an_ablation_is_what_it_says_and_trains(setting: str) -> None:
    words = setting.split()
    paper, ablated = (load_words("--algo=mg2l", "--env=mpe-spread", *own) for own in ((), words))
    settings = zip(*(dataclasses.asdict(config.encoder).items() for config in (paper, ablated)), strict=True)
    assert sum(a != b for a, b in settings) == len(words) <= 2
    trainer = make_trainer(tiny("mg2l", "toy-corners", *words, explore_rows=4))
    assert all(math.isfinite(float(value)) for _ in range(2) for value in trainer.iterate().values())
