"""World models, by name."""

from __future__ import annotations

from typing import Any

from mg2l_kalei.world_models.base import NoModelConfig, WorldModel
from mg2l_kalei.world_models.continuous import ContinuousConfig, ContinuousModel
from mg2l_kalei.world_models.marie import Marie, MarieConfig

WORLD_MODELS: dict[str, tuple[type[WorldModel] | None, Any]] = {
    "none": (None, NoModelConfig()),
    "continuous": (ContinuousModel, ContinuousConfig()),
    "marie": (Marie, MarieConfig()),
}
