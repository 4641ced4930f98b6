"""Does a reset redraw what Kaleidoscope's authors' own redraws, from the same draws (``golden/kalei_reset.npz``)?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mg2l_kalei.sharing.kaleidoscope import PUBLISHED, KaleidoscopeSharing
from mg2l_kalei.sharing.masked_linear import MaskedLinear
from mg2l_kalei.types import Clock
from tests.small_systems import generator


def test_a_reset_is_the_reference_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with np.load(Path(__file__).parents[1] / "golden" / "kalei_reset.npz", allow_pickle=False) as file:
        golden = {name: torch.from_numpy(file[name]) for name in file.files}
    layer = MaskedLinear(golden["weight"].clone(), golden["thresholds"].clone())
    assert torch.equal(~layer.masks().any(0), golden["dead"])
    config = dataclasses.replace(PUBLISHED, reset_interval=10, reset_probability=float(golden["ratio"]))
    sharing = KaleidoscopeSharing(config, range(3), generator())
    uniform = iter((golden["drawn_choice"], golden["drawn_thresholds"]))

    def rand(*shape: Any, **given: Any) -> Tensor:
        drawn = next(uniform)
        assert drawn.shape == torch.Size(shape[0] if len(shape) == 1 else (shape[0], *shape[1:]))
        return drawn

    monkeypatch.setattr(torch, "rand", rand)
    monkeypatch.setattr(nn.init, "kaiming_uniform_", lambda empty, **given: golden["drawn_weight"])
    optimiser = torch.optim.Adam(layer.parameters())
    told = sharing.on_env_steps(layer, optimiser, Clock(0, 10, 1000), generator())
    torch.testing.assert_close(layer.weight.detach(), golden["weight_after"], rtol=0, atol=0)
    torch.testing.assert_close(layer.thresholds.detach(), golden["thresholds_after"], rtol=1e-12, atol=0)
    n_changed = int((golden["weight"] != golden["weight_after"]).sum())
    assert told == {"sharing/reset_weights": n_changed} and 0 < n_changed < int(golden["dead"].sum())
