"""Networks for groups of agents, action distributions and input normalisation."""

from __future__ import annotations

from mg2l_kalei.networks.config import NetworkConfig
from mg2l_kalei.networks.distributions import ActionDistribution, Categorical, DiagonalGaussian, categorical
from mg2l_kalei.networks.drawn_types import team_network
from mg2l_kalei.networks.gates import TaskGates
from mg2l_kalei.networks.images import image_encoder
from mg2l_kalei.networks.mlp import GroupedMlp
from mg2l_kalei.networks.normaliser import RunningMoments
from mg2l_kalei.networks.recall import Recall
from mg2l_kalei.networks.recurrent import Memory, RecurrentMlp

__all__ = [
    "ActionDistribution",
    "Categorical",
    "DiagonalGaussian",
    "GroupedMlp",
    "Memory",
    "NetworkConfig",
    "Recall",
    "RecurrentMlp",
    "RunningMoments",
    "TaskGates",
    "categorical",
    "image_encoder",
    "team_network",
]
