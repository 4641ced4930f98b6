"""Does a NaN or an infinity stop the run with its name and the batch on the disk?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from mg2l_kalei.disk import tensor_file
from mg2l_kalei.disk.finite import NonFiniteError, check_finite


class Inner(NamedTuple):
    local: Tensor


class Batch(NamedTuple):
    obs: Tensor
    legal: Tensor | None
    task: Tensor
    latent: Inner


def batch() -> Batch:
    return Batch(torch.randn(4, 3), None, torch.arange(4), Inner(torch.randn(4, 2)))


PLACES: dict[str, Any] = {
    "rollout.obs": lambda named: named["rollout"].obs,
    "rollout.latent.local": lambda named: named["rollout"].latent.local,
    "loss": lambda named: named["loss"].reshape(1, 1),
    "grad.half": lambda named: named["grad.half"],
}


def named() -> dict[str, Any]:
    return {"rollout": batch(), "loss": torch.tensor(0.5), "grad.half": torch.ones(2, 2, dtype=torch.bfloat16)}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", PLACES)
def test_the_first_bad_tensor_is_named_and_the_batch_written(tmp_path: Path, place: str, value: float) -> None:
    values, path = named(), tmp_path / "new" / "batch.safetensors"
    PLACES[place](values)[0, 0] = value
    values["later"] = torch.tensor([math.nan])
    with pytest.raises(NonFiniteError, match=rf"^{place} has 1 non-finite values? .*{path}"):
        check_finite(values, path)
    stored = tensor_file.from_bytes(path.read_bytes())
    assert set(stored) == {"rollout.obs", "rollout.task", "rollout.latent.local", "loss", "grad.half", "later"}
    assert torch.equal(stored["rollout.task"], torch.arange(4))


def test_finite_tensors_of_every_kind_pass_and_write_nothing(tmp_path: Path) -> None:
    large = {"large": torch.full((9,), 3e38), "double": torch.tensor(1e300, dtype=torch.float64)}
    check_finite({**named(), **large, "empty": torch.empty(0, 2), "none": None}, tmp_path / "batch")
    check_finite({"numbers": torch.arange(3)}, tmp_path / "batch")
    assert not list(tmp_path.iterdir())


def test_gradients_that_are_tracked_stay_as_they_are(tmp_path: Path) -> None:
    weight = torch.ones(2, requires_grad=True)
    loss = weight.square().sum()
    check_finite({"weight": weight, "loss": loss}, tmp_path / "batch")
    loss.backward()
    assert weight.grad is not None and torch.equal(weight.grad, torch.full((2,), 2.0))


def test_a_batch_that_cannot_be_written_does_not_hide_the_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NonFiniteError, match=r"^loss has .*could not be written"):
        check_finite({"loss": torch.tensor(math.nan)}, tmp_path / "file" / "batch")
