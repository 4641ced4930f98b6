"""Whatever is done to a checkpoint's files: is it refused, loudly, running no code, and the one before used?"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from mg2l_kalei.disk import checkpoint, tensor_file
from mg2l_kalei.disk.checkpoint import MANIFEST, STATE, TENSORS, CheckpointError, DamagedCheckpoint
from tests.saved_states import is_state_of, latest_step, saved, state_of


def forge(folder: Path, name: str, content: bytes) -> None:
    """Put other content into a checkpoint, with a manifest that fits it."""
    (folder / name).write_bytes(content)
    files = {file: (folder / file).read_bytes() for file in (TENSORS, STATE)}
    (folder / MANIFEST).write_bytes(checkpoint._manifest(files, int(folder.name[5:])))


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
@pytest.mark.parametrize("name", [TENSORS, STATE, MANIFEST])
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
    for name in (TENSORS, STATE, MANIFEST):
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
        damage(tmp_path / f"step-0000000{step}" / STATE, "missing")
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
    damage(tmp_path / "step-00000002" / STATE, "truncated")
    assert latest_step(checkpoints) == 1
    checkpoints.save(state_of(2), 2)
    assert checkpoints.steps() == [1, 2] and latest_step(checkpoints) == 2


class Exploit:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("pwned",))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (TENSORS, pickle.dumps(Exploit())),
        (STATE, pickle.dumps(Exploit())),
        (TENSORS, (1 << 62).to_bytes(8, "little") + b"{}"),
        (TENSORS, b""),
        (STATE, b"[" * 100_000),
        (STATE, b'{"$tensor": "not there"}'),
        (STATE, b'{"$tensor": ["weight"]}'),
        (STATE, b'{"$eval": "1"}'),
        (STATE, b'{"$float": "inf", "more": 1}'),
        (STATE, b'{"$int_keys": [1]}'),
        (STATE, b'{"$tuple": 1}'),
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


@pytest.mark.parametrize(
    "manifest",
    [
        b"[]",
        b"1",
        b'{"format": 1, "step": 1, "files": {"../../secret": {}, "state.json": {}}}',
        b'{"format": 1, "step": 1, "files": {"tensors.safetensors": {}}}',
        b'{"format": 1, "step": 1, "files": null}',
        b'{"format": 1, "step": 2, "files": {}}',
        b" " * (1 << 20),
    ],
)
def test_manifests_that_name_other_things_are_refused(tmp_path: Path, manifest: bytes) -> None:
    checkpoints = saved(tmp_path, 1)
    (tmp_path / "step-00000001" / MANIFEST).write_bytes(manifest)
    with pytest.raises(DamagedCheckpoint, match="step-00000001"):
        checkpoints.load(1)
