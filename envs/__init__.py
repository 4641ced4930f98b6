"""Task families, by name.

The package holds batched environments alone and knows nothing of the learning system.
"""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np

from envs.core import TaskFamily
from envs.mpe.hunting import Hunting, HuntingConfig
from envs.mpe.layout import ScenarioConfig
from envs.mpe.simple_adversary import SimpleAdversary, SimpleAdversaryConfig
from envs.mpe.simple_reference import SimpleReference, SimpleReferenceConfig
from envs.mpe.simple_speaker_listener import SimpleSpeakerListener
from envs.mpe.simple_spread import SimpleSpread, SimpleSpreadConfig
from envs.mpe.simple_tag import SimpleTag, SimpleTagConfig
from envs.mpe.spread import Spread, SpreadConfig
from envs.mpe.wind import Wind, WindConfig
from envs.pettingzoo.family import PettingZooConfig, PettingZooFamily
from envs.toy import Corners, CornersConfig, Turns, TurnsConfig

ENVS: dict[str, tuple[type[TaskFamily], Any]] = {
    "mpe-hunting": (Hunting, HuntingConfig()),
    "mpe-simple-adversary": (SimpleAdversary, SimpleAdversaryConfig()),
    "mpe-simple-reference": (SimpleReference, SimpleReferenceConfig()),
    "mpe-simple-speaker-listener": (SimpleSpeakerListener, ScenarioConfig()),
    "mpe-simple-spread": (SimpleSpread, SimpleSpreadConfig()),
    "mpe-simple-tag": (SimpleTag, SimpleTagConfig()),
    "mpe-spread": (Spread, SpreadConfig()),
    "mpe-spread-large": (Spread, SpreadConfig(n_agents=3, n_landmarks=6, landmarks="ring", n_held_out=5)),
    "mpe-wind": (Wind, WindConfig()),
    "pettingzoo": (PettingZooFamily, PettingZooConfig()),
    "toy-corners": (Corners, CornersConfig()),
    "toy-turns": (Turns, TurnsConfig()),
}


def make_family(name: str, config: Any, generator: np.random.Generator) -> TaskFamily:
    """The family ``name`` with its tasks drawn from ``generator``. Raises KeyError naming the nearest valid name."""
    if name not in ENVS:
        nearest = difflib.get_close_matches(name, ENVS, n=1, cutoff=0.0)[0]
        raise KeyError(f"no environment {name!r}; did you mean {nearest!r}? There are: {', '.join(ENVS)}")
    family, _ = ENVS[name]
    return family(name, config, generator)
