"""A shared trunk and a head per member (the baseline MultiH of Li et al., NeurIPS 2024, arXiv 2410.08540)."""

from __future__ import annotations

from dataclasses import dataclass

from mg2l_kalei.sharing.base import GroupedLinear, LayerRole, members_setting, orthogonal_weights
from mg2l_kalei.sharing.full import FullSharing
from mg2l_kalei.sharing.independent import IndependentLinear


@dataclass(frozen=True)
class HeadsConfig:
    members: str = members_setting()


class HeadsSharing(FullSharing):
    """The last layer is each member's own; all else, free vectors too, is everybody's."""

    def linear(
        self, in_features: int, out_features: int, *, gain: float, role: LayerRole = LayerRole()
    ) -> GroupedLinear:
        if not role.is_output:
            return super().linear(in_features, out_features, gain=gain)
        weights = orthogonal_weights(self.n_members, out_features, in_features, gain, self.generator)
        return IndependentLinear(weights, self.places)
