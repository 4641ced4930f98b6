"""The contract of a task family, checked: for our tests, and for authors of new families."""

from __future__ import annotations

import torch

from envs.check.behaviour import BEHAVIOUR, UNUSUAL
from envs.check.declared import DECLARED
from envs.check.play import Bench
from envs.core import TaskFamily


def check_family(family: TaskFamily, device: torch.device | str = "cpu") -> list[str]:
    """Every breach of the contract of ``TaskFamily`` and ``EnvBatch`` found, each a sentence; empty: an honest family.

    Plays a few rows with random legal actions, for some 30 steps at a time and once beyond the time limit.
    Wrong tasks or records are reported alone, because the other checks build on them.
    """
    bench = Bench(family, torch.device(device))
    for check in DECLARED:
        if problems := list(check(bench)):
            return problems
    return [problem for check in BEHAVIOUR for problem in check(bench)]


def unusual(family: TaskFamily, device: torch.device | str = "cpu") -> list[str]:
    """What is no breach of the contract, as some games are so, but a mistake in most: each a sentence.

    All starts are alike, or seeds decide nothing. Of a family in which ``check_family`` found nothing.
    """
    bench = Bench(family, torch.device(device))
    return [remark for check in UNUSUAL for remark in check(bench)]
