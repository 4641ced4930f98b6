"""Do checkpoints give back exactly what was saved, and are the right ones kept and found?"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mg2l_kalei.disk import parts
from mg2l_kalei.disk.checkpoint import MANIFEST, CheckpointError, Checkpoints, DamagedCheckpoint, Loaded
from mg2l_kalei.disk.shards import Shard
from tests.saved_states import both, latest_step, save, saved, state_of

GOLDEN = Path(__file__).parents[1] / "golden"


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
    checkpoints.save(both(state), 5)
    loaded = checkpoints.load_latest()
    assert loaded is not None and loaded.step == 5
    assert equal(loaded.state, both(state))


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
    Checkpoints(tmp_path, 1).save(both({**state, "numpy": numpy_draws.bit_generator.state}), 3)
    train(*first)

    loaded = Checkpoints(tmp_path, 1).load(3).state["training"]
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
    Checkpoints(tmp_path, 1).save(both(state), 0)
    loaded = Checkpoints(tmp_path, 1).load(0).state["training"]
    assert equal(loaded, state)
    loaded["base"].zero_()
    assert loaded["again"].sum() == base.sum()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_of_a_device_are_saved_from_copies(tmp_path: Path) -> None:
    Checkpoints(tmp_path, 1).save(both({"x": torch.arange(3, device="cuda")}), 0)
    assert equal(Checkpoints(tmp_path, 1).load(0).state, both({"x": torch.arange(3)}))


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        (np.ones(2), "/deep/0"),
        (object(), "/deep/0"),
        (torch.nn.Linear, "/deep/0"),
        (Loaded({}, (), 1), "/deep/0"),
        ({1.5: 0}, "1.5"),
        ({"$tensor": "x"}, r"\$tensor"),
    ],
)
def test_what_cannot_be_saved_is_named_and_nothing_is_written(tmp_path: Path, entry: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        Checkpoints(tmp_path / "run", 1).save(both({"deep": [entry]}), 0)
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
        save(checkpoints, step, best=step == 2)
    assert checkpoints.steps() == [2, 5, 6]
    assert latest_step(checkpoints) == 6
    best = checkpoints.load_best()
    assert best is not None and best.step == 2
    save(checkpoints, 7, best=True)
    assert checkpoints.steps() == [6, 7]


def test_a_run_that_goes_on_from_before_leaves_its_later_checkpoints(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3, 4)
    checkpoints = saved(tmp_path, 2)
    assert checkpoints.steps() == [1, 2]
    assert latest_step(checkpoints) == 2


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1)
    checkpoints.save(both({"other": 1}), 1, best=True)
    assert checkpoints.load(1).state == both({"other": 1})
    assert checkpoints.steps() == [1]


def test_keeping_none_and_steps_below_zero_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not 0"):
        Checkpoints(tmp_path, 0)
    with pytest.raises(ValueError, match="-1"):
        saved(tmp_path, -1)


def resealed(folder: Path, **changes: Any) -> None:
    """Change a manifest as another program would write it, its SHA-256 included."""
    body = {**json.loads((folder / MANIFEST).read_text()), **changes}
    del body["sha256"]
    body["sha256"] = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(body))


def test_another_format_is_refused_naming_both_and_never_passed_over(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    resealed(tmp_path / "step-00000002", format=7)
    with pytest.raises(CheckpointError, match=r"format 7.*format 2") as refused:
        checkpoints.load_latest()
    assert not isinstance(refused.value, DamagedCheckpoint)


def test_format_1_is_answered_with_a_way_to_migrate_and_is_not_called_damaged() -> None:
    with pytest.raises(CheckpointError, match=r"format 1.*format 2: load it with the release that wrote it") as refused:
        Checkpoints(GOLDEN / "checkpoints-format-1", 1).load_latest()
    assert not isinstance(refused.value, DamagedCheckpoint)


GOLDEN_STATE = {
    "weights": {
        "actor": {"weight": torch.tensor([[0.5, -1.25], [3.0, 0.0]]), "mask": torch.tensor([True, False])},
        "iteration": 7,
        "env_steps": 2800,
    },
    "training": {
        "optimiser": {"state": {0: {"step": torch.tensor(4.0)}}, "param_groups": [{"lr": 3e-4, "betas": (0.9, 0.999)}]},
        "generators": {"torch": torch.arange(16, dtype=torch.uint8), "numpy": {"state": 2**127 + 5}},
        "best_return": -math.inf,
        "counters": {"note": None, "resumed": True},
    },
}
GOLDEN_TRIALS = [
    Shard(2, {"reward": torch.tensor([[0.5, -0.25], [1.0, 2.0]]), "task": torch.tensor([3, 1])}),
    Shard(4, {"reward": torch.tensor([[0.0, 8.0]]), "task": torch.tensor([0])}),
]


def test_format_2_loads() -> None:
    checkpoints = Checkpoints(GOLDEN / "checkpoints-format-2", 1, {"seed": 3, "learner.lr": 3e-4})
    loaded = checkpoints.load_latest()
    assert loaded is not None and loaded.step == 7
    assert equal(loaded.state, GOLDEN_STATE)
    assert [shard.first for shard in loaded.shards] == [2, 4] and checkpoints.n_trials_saved == 5
    trials = [[dict(sorted(shard.tensors.items())) for shard in shards] for shards in (loaded.shards, GOLDEN_TRIALS)]
    assert equal(*trials)
    best = checkpoints.load_best(weights_only=True)
    assert best is not None and equal(best.state, {"weights": GOLDEN_STATE["weights"]})


def test_a_checkpoint_of_another_run_is_refused_by_what_differs_and_never_passed_over(tmp_path: Path) -> None:
    run = {"seed": 0, "learner.lr": 0.1, "goals": [[1.0, 2.0]]}
    Checkpoints(tmp_path, 2, run).save(state_of(1), 1)
    assert latest_step(Checkpoints(tmp_path, 2, {**run, "goals": [(1.0, 2.0)]})) == 1
    for weights_only in (True, False):
        with pytest.raises(CheckpointError, match=r"another run \(seed=0, not 4\)") as refused:
            Checkpoints(tmp_path, 2, {**run, "seed": 4}).load_latest(weights_only=weights_only)
        assert not isinstance(refused.value, DamagedCheckpoint)


def test_settings_that_came_or_went_with_a_release_make_no_other_run(tmp_path: Path) -> None:
    Checkpoints(tmp_path, 2, {"seed": 0, "old": 1}).save(state_of(1), 1)
    assert latest_step(Checkpoints(tmp_path, 2, {"seed": 0, "new": 1})) == 1


def test_weights_alone_are_read_without_the_rest(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, n_trials=3)
    shutil.rmtree(tmp_path / "replay")
    for file in (tmp_path / "step-00000001").glob("training.*"):
        file.unlink()
    loaded = Checkpoints(tmp_path, 1).load_latest(weights_only=True)
    assert loaded is not None and loaded.shards == ()
    assert equal(loaded.state, {"weights": state_of(1)["weights"]})
    with pytest.raises(CheckpointError, match="none of 1"):
        checkpoints.load_latest()


def test_weights_that_are_nan_are_neither_saved_nor_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = state_of(2)
    bad["weights"]["weight"][1, 1] = math.nan
    checkpoints = saved(tmp_path, 1)
    with pytest.raises(CheckpointError, match=r"step-00000002 was not saved .*weights /weight are NaN"):
        checkpoints.save(bad, 2)
    with monkeypatch.context() as patched:
        patched.setattr(parts, "_refuse_nan_weights", lambda part, tensors: None)
        checkpoints.save(bad, 2)
    with pytest.raises(DamagedCheckpoint, match="weights /weight are NaN"):
        checkpoints.load(2)
    assert latest_step(checkpoints) == 1
    checkpoints.save({"weights": {"mask": torch.tensor(-math.inf)}, "training": {"loss": torch.tensor(math.nan)}}, 3)
    assert checkpoints.load(3).step == 3


def test_parts_that_are_missing_or_unknown_are_refused(tmp_path: Path) -> None:
    for names in (["weights"], ["weights", "training", "more"]):
        with pytest.raises(ValueError, match="has the parts weights, training, not"):
            Checkpoints(tmp_path, 1).save({name: {} for name in names}, 0)
