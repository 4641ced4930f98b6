"""Does Stable-Baselines3 learn on a family of ours, by the class that its guide shows?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

GUIDE = (Path(__file__).parents[1] / "docs" / "guides" / "stable-baselines3.md").read_text()


@pytest.mark.slow
def test_ppo_of_another_library_learns_the_turns() -> None:
    names: dict[str, Any] = {}
    (example,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    exec(example, names)
    assert names["before"] < 4 and names["after"] > 7  # of 8
    rows = names["Rows"]("toy-turns", 3)
    rows.seed(1)
    first = rows.reset()
    for step in range(8):
        obs, _, done, infos = rows.step(np.zeros((3, 2), dtype=np.int64))
        assert done.all() == (step == 7)
    assert all(info["TimeLimit.truncated"] for info in infos)
    assert all(info["terminal_observation"].shape == obs[0].shape for info in infos)
    rows.seed(1)
    np.testing.assert_array_equal(rows.reset(), first)
