"""Task families, by name."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np

from envs.core import TaskFamily
from envs.mpe.blind_spread import BlindSpread, BlindSpreadConfig, BlindSpreadTasks, BlindSpreadTasksConfig
from envs.mpe.hunting import Hunting, HuntingConfig
from envs.mpe.layout import ScenarioConfig
from envs.mpe.push import Push, PushConfig
from envs.mpe.simple_adversary import SimpleAdversary, SimpleAdversaryConfig
from envs.mpe.simple_reference import SimpleReference, SimpleReferenceConfig
from envs.mpe.simple_speaker_listener import SimpleSpeakerListener
from envs.mpe.simple_spread import SimpleSpread, SimpleSpreadConfig
from envs.mpe.simple_tag import SimpleTag, SimpleTagConfig
from envs.mpe.spread import Spread, SpreadConfig
from envs.mpe.spread_roles import SpreadRoles, SpreadRolesConfig
from envs.mpe.wind import Wind, WindConfig
from envs.mpe.world_scenario import WorldConfig, WorldScenario, WorldTasks
from envs.mujoco.family import MujocoFamily
from envs.mujoco.tasks import (
    Directions,
    DirectionsConfig,
    DrawnConfig,
    EitherWay,
    Factors,
    Speed,
    Weakness,
    WeaknessConfig,
    WideFactors,
)
from envs.mujoco.team import MujocoConfig
from envs.pettingzoo.family import PettingZooConfig, PettingZooFamily
from envs.rware.coloured import Coloured, ColouredConfig
from envs.rware.family import ListedConfig, ListedLayouts, Registered, RegisteredConfig
from envs.rware.generated import GeneratedConfig, GeneratedLayouts
from envs.rware.published import Published, PublishedConfig
from envs.smax.family import Battle, BattleConfig, Enemies, EnemiesConfig
from envs.toy import Corners, CornersConfig, Turns, TurnsConfig
from envs.toy_arms import Arms, ArmsConfig

_ALL = "full-standardised"  # the regime of the published curves of single robots: all see the whole state

ENVS: dict[str, tuple[type[TaskFamily], Any]] = {
    "mpe-blind-spread": (BlindSpread, BlindSpreadConfig()),
    "mpe-blind-spread-tasks": (BlindSpreadTasks, BlindSpreadTasksConfig()),
    "mpe-hunting": (Hunting, HuntingConfig()),
    "mpe-push": (Push, PushConfig()),
    "mpe-simple-adversary": (SimpleAdversary, SimpleAdversaryConfig()),
    "mpe-simple-reference": (SimpleReference, SimpleReferenceConfig()),
    "mpe-simple-speaker-listener": (SimpleSpeakerListener, ScenarioConfig()),
    "mpe-simple-spread": (SimpleSpread, SimpleSpreadConfig()),
    "mpe-simple-tag": (SimpleTag, SimpleTagConfig()),
    "mpe-spread": (Spread, SpreadConfig()),
    "mpe-spread-large": (Spread, SpreadConfig(n_agents=3, n_landmarks=6, landmarks="ring", n_held_out=5)),
    "mpe-spread-roles": (SpreadRoles, SpreadRolesConfig()),
    "mpe-wind": (Wind, WindConfig()),
    "mpe-world": (WorldScenario, WorldConfig()),
    "mpe-world-tasks": (WorldTasks, WorldConfig()),
    "mujoco-ant-4x2": (MujocoFamily, MujocoConfig("Ant", "4x2", observation=_ALL)),
    "mujoco-ant-dir": (Directions, DirectionsConfig("Ant", "4x2")),
    "mujoco-cheetah-cripple": (Weakness, WeaknessConfig()),
    "mujoco-cheetah-dir": (EitherWay, MujocoConfig()),
    "mujoco-cheetah-vel": (Speed, DrawnConfig()),
    "mujoco-halfcheetah-2x3": (MujocoFamily, MujocoConfig("HalfCheetah", "2x3", observation=_ALL)),
    "mujoco-halfcheetah-6x1": (MujocoFamily, MujocoConfig("HalfCheetah", "6x1", observation=_ALL)),
    "mujoco-hopper-3x1": (MujocoFamily, MujocoConfig("Hopper", "3x1", observation=_ALL)),
    "mujoco-hopper-param": (Factors, DrawnConfig("Hopper", "3x1")),
    "mujoco-hopper-param-wide": (WideFactors, DrawnConfig("Hopper", "3x1")),
    "mujoco-humanoid-17x1": (MujocoFamily, MujocoConfig("Humanoid", "17x1", observation=_ALL)),
    "mujoco-manysegmentswimmer-10x2": (MujocoFamily, MujocoConfig("ManySegmentSwimmer", "10x2", observation=_ALL)),
    "mujoco-swimmer-2x1": (MujocoFamily, MujocoConfig("Swimmer", "2x1", observation=_ALL)),
    "mujoco-walker-param": (Factors, DrawnConfig("Walker2d", "2x3")),
    "mujoco-walker2d-2x3": (MujocoFamily, MujocoConfig("Walker2d", "2x3", observation=_ALL)),
    "mujoco-walker2d-6x1": (MujocoFamily, MujocoConfig("Walker2d", "6x1", observation=_ALL)),
    "pettingzoo": (PettingZooFamily, PettingZooConfig()),
    "rware-2color-medium-16ag": (Published, PublishedConfig(registration="medium-16ag")),
    "rware-2color-small-8ag": (Published, PublishedConfig(registration="small-8ag")),
    "rware-2color-tiny-4ag": (Published, PublishedConfig(registration="tiny-4ag")),
    "rware-2color-tiny-4ag-hard": (Published, PublishedConfig(registration="tiny-4ag-hard")),
    "rware-color": (Coloured, ColouredConfig()),
    "rware-color-published": (Published, PublishedConfig()),
    "rware-layout": (ListedLayouts, ListedConfig(sensor_range=2, episode_steps=100)),
    "rware-layout-large": (
        GeneratedLayouts,
        GeneratedConfig(sensor_range=2, episode_steps=100, n_agents=2, n_requests=8),
    ),
    "rware-small-4ag": (Registered, RegisteredConfig(registration="small-4ag")),
    "rware-small-4ag-easy": (Registered, RegisteredConfig(registration="small-4ag-easy")),
    "rware-small-4ag-hard": (Registered, RegisteredConfig(registration="small-4ag-hard")),
    "rware-tiny-2ag": (Registered, RegisteredConfig(registration="tiny-2ag")),
    "rware-tiny-2ag-easy": (Registered, RegisteredConfig(registration="tiny-2ag-easy")),
    "rware-tiny-2ag-hard": (Registered, RegisteredConfig(registration="tiny-2ag-hard")),
    "rware-tiny-4ag": (Registered, RegisteredConfig(registration="tiny-4ag")),
    "rware-tiny-4ag-easy": (Registered, RegisteredConfig(registration="tiny-4ag-easy")),
    "rware-tiny-4ag-hard": (Registered, RegisteredConfig(registration="tiny-4ag-hard")),
    "smax-10m-vs-11m": (Battle, BattleConfig("10m-vs-11m")),
    "smax-25m": (Battle, BattleConfig("25m")),
    "smax-27m-vs-30m": (Battle, BattleConfig("27m-vs-30m")),
    "smax-2s3z": (Battle, BattleConfig("2s3z")),
    "smax-3m": (Battle, BattleConfig("3m")),
    "smax-3s-vs-5z": (Battle, BattleConfig("3s-vs-5z")),
    "smax-3s5z": (Battle, BattleConfig("3s5z")),
    "smax-3s5z-vs-3s6z": (Battle, BattleConfig("3s5z-vs-3s6z")),
    "smax-5m-vs-6m": (Battle, BattleConfig("5m-vs-6m")),
    "smax-6h-vs-8z": (Battle, BattleConfig("6h-vs-8z")),
    "smax-8m": (Battle, BattleConfig("8m")),
    "smax-enemies": (Enemies, EnemiesConfig()),
    "smax-smacv2-10-units": (Battle, BattleConfig("smacv2-10-units")),
    "smax-smacv2-20-units": (Battle, BattleConfig("smacv2-20-units")),
    "smax-smacv2-5-units": (Battle, BattleConfig("smacv2-5-units")),
    "toy-arms": (Arms, ArmsConfig()),
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
