"""What a task encoder is trained by, by name. Each is a class; an encoder's loss is the sum over those it has."""

from __future__ import annotations

from mg2l_kalei.encoders.objectives.base import Objective
from mg2l_kalei.encoders.objectives.contrast import Classification, Contrast, KlToPrior
from mg2l_kalei.encoders.objectives.local import Local, LocalContrast
from mg2l_kalei.encoders.objectives.prediction import DynamicsPrediction, OutcomePrediction, RewardPrediction
from mg2l_kalei.encoders.objectives.trajectory import Mixture, Trajectory

OBJECTIVES: dict[str, type[Objective]] = {
    "contrast": Contrast,
    "kl": KlToPrior,
    "local": Local,
    "reward_prediction": RewardPrediction,
    "prediction": OutcomePrediction,
    "dynamics": DynamicsPrediction,
    "classification": Classification,
    "local_contrast": LocalContrast,
    "trajectory": Trajectory,
    "mixture": Mixture,
}
