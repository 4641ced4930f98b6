"""Whatever is done to a checkpoint's files: is it refused, loudly, running no code, and the one before used?"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from mg2l_kalei.disk import manifest, tensor_file
from mg2l_kalei.disk.checkpoint import MANIFEST, CheckpointError, Checkpoints, DamagedCheckpoint
from mg2l_kalei.disk.manifest import Manifest, describe
from tests.saved_states import FILES, is_state_of, latest_step, numbers, save, saved

TENSORS, TREE = "weights.safetensors", "weights.json"


def forge(folder: Path, name: str, content: bytes) -> None:
    """Put other content into a checkpoint, with a manifest that fits it."""
    (folder / name).write_bytes(content)
    files = {file: describe((folder / file).read_bytes()) for file in FILES}
    (folder / MANIFEST).write_bytes(manifest.to_bytes(Manifest(int(folder.name[5:]), {}, files, ())))


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(content[:-1])
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "a folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("how", ["missing", "truncated", "emptied", "a folder"])
@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    tmp_path: Path, name: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    damage(tmp_path / "step-00000002" / name, how)
    assert latest_step(checkpoints) == 1
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "step-00000002" in record.getMessage()
    with pytest.raises(DamagedCheckpoint):
        checkpoints.load(2)


def test_no_flipped_byte_is_ever_loaded(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1)
    for name in (*FILES, MANIFEST):
        path = tmp_path / "step-00000001" / name
        content = path.read_bytes()
        for i in range(len(content)):
            path.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
            try:
                state = checkpoints.load(1).state
            except CheckpointError:
                continue
            assert name == MANIFEST and is_state_of(state, 1)  # a space turned into nothing but another space
        path.write_bytes(content)
    assert latest_step(checkpoints) == 1


def test_when_none_is_good_the_way_out_is_named(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    for step in (1, 2):
        damage(tmp_path / f"step-0000000{step}" / TREE, "missing")
    with pytest.raises(CheckpointError, match=r"none of 2 .*resume=never"):
        checkpoints.load_latest()


def test_checkpoints_that_are_gone_altogether_are_no_fresh_start(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1)
    shutil.rmtree(tmp_path / "step-00000001")
    with pytest.raises(CheckpointError, match="resume=never"):
        checkpoints.load_latest()


@pytest.mark.parametrize(
    "text", ["", "step-1", "../elsewhere", "step-00000002/../../x", "step-00000009", "\0", "step-00000001.old"]
)
def test_a_bad_pointer_is_a_warning_and_the_newest_is_taken(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    (tmp_path / "latest").write_text(text)
    assert latest_step(checkpoints) == 2
    assert len(caplog.records) == 1
    (tmp_path / "best").write_text(text)
    with pytest.raises(CheckpointError):
        checkpoints.load_best()


def test_a_damaged_one_does_not_outlive_the_run_that_went_on(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    damage(tmp_path / "step-00000002" / TREE, "truncated")
    assert latest_step(checkpoints) == 1
    save(checkpoints, 2)
    assert checkpoints.steps() == [1, 2] and latest_step(checkpoints) == 2


class Exploit:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("pwned",))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (TENSORS, pickle.dumps(Exploit())),
        (TREE, pickle.dumps(Exploit())),
        (TENSORS, (1 << 62).to_bytes(8, "little") + b"{}"),
        (TENSORS, b""),
        (TREE, b"[" * 100_000),
        (TREE, b"[]"),
        (TREE, b"null"),
        (TREE, b'{"$tensor": "weight"}'),
        (TREE, b'{"$tensor": "not there"}'),
        (TREE, b'{"$tensor": ["weight"]}'),
        (TREE, b'{"$eval": "1"}'),
        (TREE, b'{"$float": "inf", "more": 1}'),
        (TREE, b'{"$int_keys": [1]}'),
        (TREE, b'{"$tuple": 1}'),
    ],
)
def test_forged_content_is_refused_even_with_a_fitting_manifest(
    tmp_path: Path, name: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoints = saved(tmp_path / "run", 1)
    forge(tmp_path / "run" / "step-00000001", name, content)
    with pytest.raises(DamagedCheckpoint, match="step-00000001"):
        checkpoints.load(1)
    assert not (tmp_path / "pwned").exists()


def test_a_header_too_large_is_refused_before_it_is_read() -> None:
    header = b"{}".ljust(tensor_file.MAX_HEADER + 1)  # else in order
    with pytest.raises(ValueError, match=f"limit {tensor_file.MAX_HEADER}"):
        tensor_file.from_bytes(len(header).to_bytes(8, "little") + header)


def sealed(**changes: Any) -> bytes:
    """A manifest that says other things, with a SHA-256 that fits."""
    body = {"format": 2, "step": 1, "run": {}, "files": {}, "shards": [], **changes}
    seal = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return json.dumps({**body, "sha256": seal}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"1",
        b"{}",
        b"[" * 100_000,
        b'{"format": 2, "step": 1, "run": {}, "files": {}, "shards": []}',
        sealed(step=2),
        sealed(files=None),
        sealed(files={"../../secret": {"size": 1, "sha256": "0" * 64}}),
        sealed(files={TENSORS: {"size": -1, "sha256": "0" * 64}}),
        sealed(files={TENSORS: {"size": 1, "sha256": "../../secret"}}),
        sealed(shards=[{"first": 0, "n_trials": 1, "size": 1, "sha256": "../" * 20 + "0000"}]),
        sealed(shards=[{"first": "../..", "n_trials": 1, "size": 1, "sha256": "0" * 64}]),
        sealed(shards=[7]),
        sealed(run=[]),
        b" " * (1 << 23),
    ],
)
def test_manifests_that_name_other_things_are_refused(tmp_path: Path, content: bytes) -> None:
    checkpoints = saved(tmp_path, 1)
    (tmp_path / "step-00000001" / MANIFEST).write_bytes(content)
    with pytest.raises(DamagedCheckpoint, match="step-00000001"):
        checkpoints.load(1)


@pytest.mark.parametrize("number", [3, 6])
def test_a_flipped_digit_of_the_format_is_damage_and_the_one_before_is_used(tmp_path: Path, number: int) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    path = tmp_path / "step-00000002" / MANIFEST
    path.write_text(path.read_text().replace('"format": 2', f'"format": {number}'))
    assert latest_step(checkpoints) == 1


@pytest.mark.parametrize("name", ["latest", f"step-00000002/{MANIFEST}", f"step-00000002/{TENSORS}"])
@pytest.mark.parametrize("other", ["pipe", "endless device"])
def test_what_is_no_file_neither_hangs_nor_fills_the_memory(tmp_path: Path, name: str, other: str) -> None:
    saved(tmp_path, 1, 2)
    (tmp_path / name).unlink()
    if other == "pipe":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    assert latest_step(Checkpoints(tmp_path, 2)) == (2 if name == "latest" else 1)


def test_what_a_stranger_wrote_does_not_steer_the_terminal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    forge(tmp_path / "step-00000002", TREE, b'{"$\\u001b[31m": 1}')
    assert latest_step(checkpoints) == 1
    assert "\\x1b[31m" in caplog.text and "\x1b" not in caplog.text


def shard_file(folder: Path, number: int) -> Path:
    return sorted((folder / "replay").iterdir())[number]


@pytest.mark.parametrize("how", ["missing", "truncated", "emptied", "a folder"])
def test_a_damaged_shard_damages_the_checkpoints_that_need_it_and_the_one_before_goes_on(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    saved(tmp_path, 1, 2, 3, n_trials=2)
    damage(shard_file(tmp_path, 1), how)
    checkpoints = Checkpoints(tmp_path, 9)
    assert latest_step(checkpoints) == 1 and numbers(checkpoints) == [0, 1] and checkpoints.n_trials_saved == 2
    assert caplog.text.count("checkpoint refused") == 2 * 2  # loaded twice
    for step in (2, 3):
        save(checkpoints, step, 3)
    again = Checkpoints(tmp_path, 9)
    assert latest_step(again) == 3 and numbers(again) == list(range(8))
    assert len(list((tmp_path / "replay").iterdir())) == 3


def test_no_flipped_byte_of_a_shard_is_ever_loaded(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, n_trials=1)
    path = shard_file(tmp_path, 0)
    content = path.read_bytes()
    for i in range(len(content)):
        path.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        with pytest.raises(DamagedCheckpoint):
            checkpoints.load(1)
    path.write_bytes(content)
    assert numbers(checkpoints) == [0]
