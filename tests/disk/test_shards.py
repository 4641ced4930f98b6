"""Are trials of replay written once, and there for as long as a checkpoint needs them?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from mg2l_kalei.disk.checkpoint import Checkpoints, DamagedCheckpoint
from mg2l_kalei.disk.manifest import MAX_SIZE
from mg2l_kalei.disk.shards import Shard
from tests.saved_states import latest_step, numbers, save, saved, state_of, trials


def files(folder: Path) -> dict[str, int]:
    """Shards on the disk, and which writes they are of."""
    return {path.name: path.stat().st_ino for path in (folder / "replay").iterdir()}


def test_each_checkpoint_writes_new_trials_alone_and_all_come_back_in_order(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, n_trials=3)
    first = files(tmp_path)
    save(checkpoints, 2, 2)
    assert first.items() < files(tmp_path).items() and len(files(tmp_path)) == 2
    again = Checkpoints(tmp_path, 9)
    assert latest_step(again) == 2 and numbers(again) == [0, 1, 2, 3, 4]
    assert again.n_trials_saved == checkpoints.n_trials_saved == 5


def test_every_kind_of_tensor_comes_back_bit_for_bit(tmp_path: Path) -> None:
    tensors = {
        "empty": torch.empty(2, 0),
        "half": torch.tensor([[1.5], [float("nan")]], dtype=torch.bfloat16),
        "alive": torch.tensor([True, False]),
        "part of a ring": torch.arange(20).reshape(10, 2)[3:5],
    }
    Checkpoints(tmp_path, 1).save(state_of(0), 0, shard=Shard(0, tensors))
    (shard,) = Checkpoints(tmp_path, 1).load(0).shards
    assert shard.first == 0 and shard.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(shard.tensors[name].view(torch.uint8), tensor.contiguous().view(torch.uint8)), name
        assert shard.tensors[name].dtype == tensor.dtype


def test_a_checkpoint_without_new_trials_writes_none(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, n_trials=2)
    before = files(tmp_path)
    for step, shard in enumerate([None, trials(2, 0), Shard(2, {})], start=2):
        checkpoints.save(state_of(step), step, shard=shard)
        assert files(tmp_path) == before and numbers(checkpoints) == [0, 1]


def test_shards_go_with_the_last_checkpoint_that_needs_them(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 2)
    for step in range(1, 7):
        save(checkpoints, step, 2, oldest_trial=2 * step - 5, best=step == 2)  # at most five trials, of three shards
    assert [shard.first for shard in checkpoints.load(6).shards] == [6, 8, 10]
    assert [shard.first for shard in checkpoints.load(5).shards] == [4, 6, 8]
    best = checkpoints.load_best(weights_only=True)
    assert best is not None and best.step == 2  # its weights are kept without the trials
    with pytest.raises(DamagedCheckpoint, match="No such file"):
        checkpoints.load_best()
    assert [int(name.split("-")[1]) for name in sorted(files(tmp_path))] == [4, 6, 8, 10]
    save(checkpoints, 7, 2, oldest_trial=9, best=True)
    assert [int(name.split("-")[1]) for name in sorted(files(tmp_path))] == [6, 8, 10, 12]


def test_a_replay_that_dropped_everything_may_begin_again_later(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, n_trials=2)
    checkpoints.save(state_of(2), 2, oldest_trial=10)
    assert checkpoints.load(2).shards == () and checkpoints.n_trials_saved == 0
    checkpoints.save(state_of(3), 3, shard=trials(10, 1), oldest_trial=10)
    assert numbers(checkpoints) == [10]


@pytest.mark.parametrize(("first", "oldest"), [(1, 0), (3, 0), (5, 4)])
def test_trials_twice_or_left_out_are_refused_and_nothing_is_written(tmp_path: Path, first: int, oldest: int) -> None:
    checkpoints = saved(tmp_path, 1, n_trials=2)
    before = files(tmp_path)
    with pytest.raises(ValueError, match=f"begins with trial {first}, but 2 to {max(2, oldest)} comes next"):
        checkpoints.save(state_of(2), 2, shard=trials(first, 2), oldest_trial=oldest)
    assert files(tmp_path) == before and checkpoints.steps() == [1]


def test_tensors_that_do_not_share_their_trials_are_refused_by_shape(tmp_path: Path) -> None:
    for odd in (torch.zeros(3), torch.tensor(0.0)):
        with pytest.raises(ValueError, match=r"trials as their first axis, not .*'task': \(2,\)"):
            Checkpoints(tmp_path, 1).save(state_of(0), 0, shard=Shard(0, {"task": torch.zeros(2), "odd": odd}))


def test_going_on_from_before_leaves_other_shards_of_the_same_trials_alone(tmp_path: Path) -> None:
    """Two runs of the same trials, as far as the disk can see: neither spoils the other's checkpoint before it goes."""
    saved(tmp_path, 1, 2, n_trials=2)
    kept = files(tmp_path)
    (tmp_path / "latest").write_text("step-00000001")
    checkpoints = Checkpoints(tmp_path, 9)
    assert latest_step(checkpoints) == 1
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checkpoints, "_prune", lambda step: None)
        other = Shard(2, {"task": torch.tensor([7, 7])})
        checkpoints.save(state_of(3), 3, shard=other)
    assert kept.items() < files(tmp_path).items()
    assert [shard.first for shard in checkpoints.load(2).shards] == [0, 2]


def test_a_shard_that_lies_there_already_is_written_again_lest_it_be_damaged(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, n_trials=2)
    path = sorted((tmp_path / "replay").iterdir())[1]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    checkpoints = Checkpoints(tmp_path, 9)
    assert latest_step(checkpoints) == 1
    save(checkpoints, 2, 2)
    assert numbers(checkpoints) == [0, 1, 2, 3]


def test_shards_outlive_an_error_of_reading_a_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = saved(tmp_path, 1, 2, n_trials=2)
    with monkeypatch.context() as patched:
        listed = checkpoints._listed

        def fail_once(name: str) -> object:
            if name == "step-00000001":
                raise OSError(5, "Input/output error")
            return listed(name)

        patched.setattr(checkpoints, "_listed", fail_once)
        checkpoints.save(state_of(3), 3, oldest_trial=4)
    assert [shard.first for shard in checkpoints.load(1).shards] == [0]


def test_a_list_of_shards_too_long_to_be_read_again_is_refused(tmp_path: Path) -> None:
    run = {"text": "x" * MAX_SIZE}
    with pytest.raises(ValueError, match=f"{MAX_SIZE} at most"):
        Checkpoints(tmp_path, 1, run).save(state_of(0), 0)
    assert not os.listdir(tmp_path)
