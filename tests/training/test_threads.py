"""Is it said when a run goes on with another number of threads, which may change its last bits?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import train
from tests.small_runs import tiny


@pytest.fixture
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads_as_before")
@pytest.mark.parametrize(("n_threads", "is_told"), [(1, False), (2, True)])
def test_another_number_of_threads_is_told_on_resuming(
    n_threads: int,
    is_told: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)
    assert train.main(tiny(tmp_path, n_iters=1, n_threads=1)) == 0
    capsys.readouterr()
    assert train.main(tiny(tmp_path, n_iters=2, n_threads=n_threads)) == 0
    warning = "warning: 2 threads instead of 1: last bits may differ, n_threads=1 keeps them"
    assert (warning in capsys.readouterr().err) == is_told
