"""Are a world model's errors those of the steps that were lived, whatever the sizes are?"""

from __future__ import annotations

import pytest
import torch

from mg2l_kalei.buffers.windows import Moments, jointly_observed, window
from mg2l_kalei.world_models.scores import LinearModel, calibration
from tests.world_models import swirl


@pytest.mark.parametrize("n", [4, 40])
def test_the_regression_solves_its_normal_equations_with_few_moments_as_with_many(n: int) -> None:
    replay = swirl.replayed()
    moments = Moments(torch.arange(n) % len(replay), torch.arange(n) % replay.n_steps)
    fitted = window(replay, moments, before=1, after=1)
    model = LinearModel(jointly_observed(swirl.SPEC), fitted, torch.zeros(n, 1))
    x = model._inputs(fitted.steps.obs, fitted.steps.action, fitted.is_known, torch.zeros(n, 1))
    x = (x - model.mean) / model.std
    now = fitted.steps
    y = torch.cat([(now.next_obs - now.obs)[-1].flatten(1), now.reward[-1]], dim=-1).double() - model.shift
    assert (x.shape[-1] > n) == (n == 4)
    gradient = x.T @ (x @ model.weight - y) + 1e-3 * n * model.weight
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-8)


def test_nobody_who_stayed_says_nothing_of_calibration() -> None:
    told, nobody = torch.tensor([0.5, 1.0]), torch.tensor([False, False])
    assert calibration(told, told, nobody, 5) == {}
    assert all(torch.as_tensor(x).isfinite() for x in calibration(told, told, ~nobody, 5).values())
