"""Parameter sharing: how the members of a group share the weights of one network."""

from __future__ import annotations

from mg2l_kalei.sharing.base import GroupedLinear, ParameterSharing, SharingConfig
from mg2l_kalei.sharing.full import FullConfig, FullSharing
from mg2l_kalei.sharing.independent import IndependentConfig, IndependentSharing
from mg2l_kalei.sharing.kaleidoscope import KaleidoscopeConfig, KaleidoscopeSharing
from mg2l_kalei.sharing.masked_linear import frozen

__all__ = ["SHARINGS", "GroupedLinear", "ParameterSharing", "SharingConfig", "frozen"]

SHARINGS: dict[str, tuple[type[ParameterSharing], SharingConfig]] = {
    "full": (FullSharing, FullConfig()),
    "independent": (IndependentSharing, IndependentConfig()),
    "kaleidoscope": (KaleidoscopeSharing, KaleidoscopeConfig()),
}
