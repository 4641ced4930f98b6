"""Parameter sharing: how the members of a group share the weights of one network."""

from __future__ import annotations

from mg2l_kalei.sharing.base import GroupedLinear, LayerRole, MemberFigure, ParameterSharing, SharingConfig
from mg2l_kalei.sharing.full import FullConfig, FullSharing
from mg2l_kalei.sharing.heads import HeadsConfig, HeadsSharing
from mg2l_kalei.sharing.hypernet import HypernetConfig, HypernetSharing
from mg2l_kalei.sharing.independent import IndependentConfig, IndependentSharing, SepsConfig, SepsSharing
from mg2l_kalei.sharing.kaleidoscope import PUBLISHED, KaleidoscopeConfig, KaleidoscopeSharing
from mg2l_kalei.sharing.low_rank import LowRankConfig, LowRankSharing
from mg2l_kalei.sharing.snp import SnpConfig, SnpSharing

__all__ = ["SHARINGS", "GroupedLinear", "LayerRole", "MemberFigure", "ParameterSharing", "SharingConfig"]

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
