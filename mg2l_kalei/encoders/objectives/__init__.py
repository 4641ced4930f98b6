"""What a task encoder is trained by, by name. Each is a class; an encoder's loss is the sum over those it has."""

from __future__ import annotations

from mg2l_kalei.encoders.objectives.base import Objective
from mg2l_kalei.encoders.objectives.contrast import Contrast, KlToPrior
from mg2l_kalei.encoders.objectives.local import Local
from mg2l_kalei.encoders.objectives.prediction import OutcomePrediction, RewardPrediction

OBJECTIVES: dict[str, type[Objective]] = {
    "contrast": Contrast,
    "kl": KlToPrior,
    "local": Local,
    "reward_prediction": RewardPrediction,
    "prediction": OutcomePrediction,
}
