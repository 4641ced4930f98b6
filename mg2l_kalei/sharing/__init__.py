"""Parameter sharing: how the members of a group share the weights of one network."""

from __future__ import annotations

import torch

from envs.core import EnvSpec
from mg2l_kalei.sharing.base import GroupedLinear, LayerRole, ParameterSharing, SharingConfig
from mg2l_kalei.sharing.figures import MemberFigure
from mg2l_kalei.sharing.full import FullConfig, FullSharing
from mg2l_kalei.sharing.heads import HeadsConfig, HeadsSharing
from mg2l_kalei.sharing.hypernet import HypernetConfig, HypernetSharing
from mg2l_kalei.sharing.independent import IndependentConfig, IndependentSharing, SepsConfig, SepsSharing
from mg2l_kalei.sharing.kaleidoscope import PUBLISHED, KaleidoscopeConfig, KaleidoscopeSharing
from mg2l_kalei.sharing.low_rank import LowRankConfig, LowRankSharing
from mg2l_kalei.sharing.snp import SnpConfig, SnpSharing

__all__ = [
    "SHARINGS",
    "GroupedLinear",
    "LayerRole",
    "MemberFigure",
    "ParameterSharing",
    "SharingConfig",
    "team_sharing",
]

SHARINGS: dict[str, tuple[type[ParameterSharing], SharingConfig]] = {
    "full": (FullSharing, FullConfig()),
    "heads": (HeadsSharing, HeadsConfig()),
    "hypernet": (HypernetSharing, HypernetConfig()),
    "independent": (IndependentSharing, IndependentConfig()),
    "kaleidoscope": (KaleidoscopeSharing, KaleidoscopeConfig()),
    "kaleidoscope_published": (KaleidoscopeSharing, PUBLISHED),
    "low_rank": (LowRankSharing, LowRankConfig()),
    "seps": (SepsSharing, SepsConfig()),
    "snp": (SnpSharing, SnpConfig()),
}


def team_sharing(kind: str, config: SharingConfig, spec: EnvSpec, generator: torch.Generator) -> ParameterSharing:
    """The scheme of a kind for a network of the team, whose places are agents, or types that are drawn."""
    sharing_class = SHARINGS[kind][0]
    sharing = sharing_class(config, sharing_class.members_of(config, spec), generator)
    if getattr(config, "members", "agents") == "types":
        sharing.type_columns = spec.type_columns
    return sharing
