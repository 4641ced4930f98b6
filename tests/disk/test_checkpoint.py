"""Do checkpoints give back exactly what was saved, and are the right ones kept and found?"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mg2l_kalei.disk.checkpoint import MANIFEST, CheckpointError, Checkpoints, Loaded
from mg2l_kalei.types import State

GOLDEN = Path(__file__).parents[1] / "golden" / "checkpoints-format-1"


def state_of(number: int) -> State:
    return {"weight": torch.full((3, 2), float(number)), "iteration": number, "history": [0.1 * number, math.inf]}


def equal(a: Any, b: Any) -> bool:
    """Same types, same values, bit for bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        bits = [t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b)]
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return repr(a) == repr(b)  # tells 0.0 from -0.0, and nan is nan


def saved(folder: Path, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep=9)
    for step in steps:
        checkpoints.save(state_of(step), step)
    return checkpoints


def latest_step(checkpoints: Checkpoints) -> int:
    loaded = checkpoints.load_latest()
    assert loaded is not None
    assert equal(loaded.state, state_of(loaded.step))
    return loaded.step


def test_every_kind_of_value_comes_back_bit_for_bit(tmp_path: Path) -> None:
    dtypes = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
    state = {
        "dtypes": [torch.arange(6).reshape(2, 3).to(dtype) for dtype in dtypes],
        "shapes": {"zero_dim": torch.tensor(math.pi), "empty": torch.empty(0, 4)},
        "not_finite": torch.tensor([math.nan, -math.inf, -0.0]),
        "generator": torch.Generator().manual_seed(3).get_state(),
        "pcg64": np.random.default_rng(7).bit_generator.state,
        "floats": [0.1, -0.0, 1e-320, 1.7976931348623157e308, math.inf, -math.inf, math.nan],
        "whole": [0, -1, 2**127 + 1],
        "others": {"none": None, "yes": True, "text": 'a "quoted"\nline \u2603', "none of it": {}, "nothing": []},
        "betas": (0.9, 0.999),
        "a/b": torch.ones(1),
        "a": {"b": torch.zeros(1)},
    }
    checkpoints = Checkpoints(tmp_path, 1)
    checkpoints.save(state, 5)
    loaded = checkpoints.load_latest()
    assert loaded is not None and loaded.step == 5
    assert equal(loaded.state, state)


def test_restored_generators_and_optimisers_go_on_as_if_never_stopped(tmp_path: Path) -> None:
    def session() -> tuple[nn.Linear, torch.optim.Adam, torch.Generator, np.random.Generator]:
        layer = nn.Linear(4, 2)
        return layer, torch.optim.Adam(layer.parameters(), lr=1e-2), torch.Generator(), np.random.default_rng(0)

    def train(layer: nn.Linear, adam: torch.optim.Adam, draws: torch.Generator, normal: np.random.Generator) -> None:
        for _ in range(3):
            x = torch.randn(8, 4, generator=draws) + float(normal.normal())
            adam.zero_grad()
            layer(x).square().mean().backward()
            adam.step()

    layer, adam, draws, numpy_draws = first = session()
    train(*first)
    state = {"layer": layer.state_dict(), "adam": adam.state_dict(), "draws": draws.get_state()}
    Checkpoints(tmp_path, 1).save({**state, "numpy": numpy_draws.bit_generator.state}, 3)
    train(*first)

    loaded = Checkpoints(tmp_path, 1).load(3).state
    layer2, adam2, draws2, numpy_draws2 = second = session()
    layer2.load_state_dict(loaded["layer"])
    adam2.load_state_dict(loaded["adam"])
    draws2.set_state(loaded["draws"])
    numpy_draws2.bit_generator.state = loaded["numpy"]
    train(*second)
    assert torch.equal(layer.weight, layer2.weight)


def test_views_and_shared_memory_are_stored_as_what_they_show(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {"base": base, "again": base, "transposed": base.T, "part": base[1:, ::2], "spread": base[:1].expand(3, 4)}
    Checkpoints(tmp_path, 1).save(state, 0)
    loaded = Checkpoints(tmp_path, 1).load(0).state
    assert equal(loaded, state)
    loaded["base"].zero_()
    assert loaded["again"].sum() == base.sum()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_of_a_device_are_saved_from_copies(tmp_path: Path) -> None:
    Checkpoints(tmp_path, 1).save({"x": torch.arange(3, device="cuda")}, 0)
    assert equal(Checkpoints(tmp_path, 1).load(0).state, {"x": torch.arange(3)})


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        (np.ones(2), "/deep/0"),
        (object(), "/deep/0"),
        (torch.nn.Linear, "/deep/0"),
        (Loaded({}, 1), "/deep/0"),
        ({1.5: 0}, "1.5"),
        ({"$tensor": "x"}, r"\$tensor"),
    ],
)
def test_what_cannot_be_saved_is_named_and_nothing_is_written(tmp_path: Path, entry: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        Checkpoints(tmp_path / "run", 1).save({"deep": [entry]}, 0)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_checkpoints_loads_nothing(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "none", 1)
    assert checkpoints.load_latest() is None
    assert checkpoints.load_best() is None
    with pytest.raises(CheckpointError, match="step-00000003"):
        checkpoints.load(3)


def test_the_last_ones_and_the_best_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 2)
    for step in range(1, 7):
        checkpoints.save(state_of(step), step, best=step == 2)
    assert checkpoints.steps() == [2, 5, 6]
    assert latest_step(checkpoints) == 6
    best = checkpoints.load_best()
    assert best is not None and best.step == 2
    checkpoints.save(state_of(7), 7, best=True)
    assert checkpoints.steps() == [6, 7]


def test_a_run_that_goes_on_from_before_leaves_its_later_checkpoints(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3, 4)
    checkpoints = saved(tmp_path, 2)
    assert checkpoints.steps() == [1, 2]
    assert latest_step(checkpoints) == 2


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1)
    checkpoints.save({"other": 1}, 1, best=True)
    assert checkpoints.load(1).state == {"other": 1}
    assert checkpoints.steps() == [1]


def test_keeping_none_and_steps_below_zero_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not 0"):
        Checkpoints(tmp_path, 0)
    with pytest.raises(ValueError, match="-1"):
        saved(tmp_path, -1)


def test_another_format_is_refused_naming_both_and_never_passed_over(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    path = tmp_path / "step-00000002" / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 7}))
    with pytest.raises(CheckpointError, match=r"format 7.*format 1"):
        checkpoints.load_latest()


def test_format_1_still_loads() -> None:
    loaded = Checkpoints(GOLDEN, 1).load_latest()
    assert loaded is not None and loaded.step == 7
    expected = {
        "actor": {"weight": torch.tensor([[0.5, -1.25], [3.0, 0.0]]), "mask": torch.tensor([True, False])},
        "optimiser": {"state": {0: {"step": torch.tensor(4.0)}}, "param_groups": [{"lr": 3e-4, "betas": (0.9, 0.999)}]},
        "generators": {"torch": torch.arange(16, dtype=torch.uint8), "numpy": {"state": 2**127 + 5}},
        "best_return": -math.inf,
        "counters": {"iteration": 7, "note": None, "resumed": True},
    }
    assert equal(loaded.state, expected)
