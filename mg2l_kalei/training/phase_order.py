"""Which phases a run has, in the order in which an iteration goes through them."""

from __future__ import annotations

from mg2l_kalei.training.imagination import Imagine, LearnWorldModel
from mg2l_kalei.training.phases import Collect, Explore, FitSharing, Infer, Learn, Phase, Workshop


def phases_of(shop: Workshop) -> dict[str, Phase]:
    """By name. What was just lived through is learned from before the team changes in its world model."""
    explores = shop.inference is not None and shop.inference.config.source == "replay"
    phases: dict[str, Phase] = {
        **({"explore": Explore(shop)} if explores else {}),
        "collect": Collect(shop),
        "infer": Infer(shop),
        "fit_sharing": FitSharing(shop),
        "learn": Learn(shop),
    }
    if shop.system.world_model is not None:
        learned = LearnWorldModel(shop)
        phases |= {"learn_world_model": learned, "imagine": Imagine(shop, learned)}
    return phases
