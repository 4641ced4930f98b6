"""One thread per test process: tests run in parallel, and their tensors are tiny."""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from envs import ENVS
from mg2l_kalei.encoders import ENCODERS
from mg2l_kalei.encoders.objectives import OBJECTIVES
from mg2l_kalei.encoders.poolings import POOLINGS
from mg2l_kalei.learners import LEARNERS
from mg2l_kalei.sharing import SHARINGS
from mg2l_kalei.training import plugins
from mg2l_kalei.training.system import FOLDERS

torch.set_num_threads(1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What plays battles is skipped where they are not installed."""
    given = getattr(item, "callspec", None)
    plays = given and any(str(value).startswith("smax-") for value in given.params.values())
    if plays and find_spec("jaxmarl") is None:
        pytest.skip("jaxmarl is not installed: pip install 'mg2l_kalei[smax]'")


@pytest.fixture
def no_plugins_left(tmp_path: Path) -> Iterator[None]:
    """What plugins in the test's folder register is gone after the test."""
    registries: list[dict[str, object]] = [ENVS, ENCODERS, POOLINGS, OBJECTIVES, SHARINGS, LEARNERS]  # type: ignore[list-item]
    before = [dict(registry) for registry in registries]
    _forget()
    yield
    _forget()
    for registry, content in zip(registries, before, strict=True):
        registry.clear()
        registry.update(content)
    FOLDERS.clear()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def _forget() -> None:
    """Plugins are loaded once in a process; to a test, all are new."""
    for remembered in (plugins._failure, plugins._load_installed):
        remembered.cache_clear()
