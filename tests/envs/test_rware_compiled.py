"""Is what was compiled compiled again after any module of the warehouses has changed?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from envs.rware.compiled import forget_outdated


def test_kernels_older_than_any_source_are_forgotten_and_younger_ones_kept(tmp_path: Path) -> None:
    def made_at(name: str, second: int) -> Path:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (second, second))
        return tmp_path / name

    made_at("kernels.py", 100)
    constants = made_at("constants.py", 200)
    old, young = made_at("kernels.work.nbi", 150), made_at("kernels.look.nbi", 250)
    forget_outdated(tmp_path, tmp_path)
    assert not old.exists() and young.exists()
    os.utime(constants, (300, 300))
    forget_outdated(tmp_path, tmp_path)
    assert not young.exists()


def test_compiled_code_is_loaded_from_no_folder_that_the_working_directory_names(tmp_path: Path) -> None:
    (tmp_path / ".numba_config.yaml").write_text("cache_dir: ./foreign")
    code = "import envs.rware.compiled; from numba import config; config.reload_config(); print([config.CACHE_DIR])"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    environment.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "['']\n"
