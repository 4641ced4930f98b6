"""Does what is installed from a wheel, far from the clone, do all that the clone does?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import NamedTuple

import pytest

import mg2l_kalei

ROOT = Path(__file__).parents[1]
SOURCES = ("mg2l_kalei", "envs", "config", "setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
BUILD = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir")
INSTALL = ("install", "--no-deps", "--no-index")

SMALL = "n_rows=8 trial_steps=20 eval_trials=2 eval_interval=0 references=false context.n_updates=2 n_threads=1"

CORRIDOR = """
from mpe2.simple_spread_v3 import parallel_env

def make():
    return parallel_env()
"""


def completed(*command: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Without the modules of the clone, which tests may have found by way of the environment."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


class Installed(NamedTuple):
    """An environment that has the wheel, and a folder that is no clone."""

    scripts: Path
    folder: Path

    def run(self, program: str, *words: object) -> str:
        """What it prints."""
        done = completed(self.scripts / program, *words, cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, built and installed; what it needs is borrowed from the environment that runs this test."""
    place = tmp_path_factory.mktemp("wheel")
    source, wheels = place / "source", place / "wheels"
    source.mkdir()
    for name in SOURCES:  # building leaves folders beside them
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = (sys.executable, "-m", "pip", "--quiet")
    assert completed(*pip, *BUILD, wheels, source, cwd=place).returncode == 0
    venv.create(place / "venv", symlinks=os.name != "nt")
    scripts = place / "venv" / ("Scripts" if os.name == "nt" else "bin")
    (wheel,) = wheels.glob("*.whl")
    done = completed(*pip, "--python", scripts / "python", *INSTALL, wheel, cwd=place)
    assert done.returncode == 0, done.stderr
    (packages,) = {path.parent for path in (place / "venv").rglob("mg2l_kalei-*.dist-info")}
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    (place / "elsewhere").mkdir()
    return Installed(scripts, place / "elsewhere")


@pytest.mark.slow
def test_it_trains_evaluates_and_goes_on_outside_of_the_clone(installed: Installed) -> None:
    where = installed.run("python", "-c", "import envs, mg2l_kalei; print(envs.__file__, mg2l_kalei.__file__)")
    assert str(ROOT) not in where and where.count("site-packages") == 2
    words = ["train", "--expt=quick", *SMALL.split()]
    assert "# config/expt/quick.yaml\n" in installed.run("mg2l-kalei", *words, "n_iters=2", "--print-config")
    installed.run("mg2l-kalei", *words, "n_iters=2")
    (run,) = installed.folder.glob("results/toy-corners/mg2l_kalei/*")
    assert "toy-corners, seen tasks" in installed.run("mg2l-kalei", "evaluate", run)
    installed.run("mg2l-kalei", *words, "n_iters=3")
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3
    assert [path.name for path in installed.folder.glob("results/*/*/*")] == [run.name]
    assert installed.run("python", "-m", "mg2l_kalei", "curves", run, "metric=train/approx_kl").startswith("train/")


@pytest.mark.slow
def test_it_lists_the_families_and_finds_modules_of_the_working_directory(installed: Installed) -> None:
    listed = installed.run("mg2l-kalei", "tasks", "list")
    assert "toy-corners" in listed and "Error" not in listed
    assert installed.run("mg2l-kalei", "--version") == f"mg2l_kalei {mg2l_kalei.__version__}\n"
    (installed.folder / "corridor.py").write_text(CORRIDOR)
    shown = installed.run("mg2l-kalei", "tasks", "show", "pettingzoo", "env.factory=corridor:make")
    assert "3 agents, 5 actions" in shown


@pytest.mark.slow
def test_it_carries_types_and_says_what_it_is(installed: Installed) -> None:
    code = "from importlib import metadata, resources\n"
    code += "print(*(resources.files(name).joinpath('py.typed').is_file() for name in ('envs', 'mg2l_kalei')))\n"
    code += "print(metadata.version('mg2l_kalei'), len(metadata.metadata('mg2l_kalei').get_all('Project-URL')) > 0)"
    assert installed.run("python", "-c", code) == f"True True\n{mg2l_kalei.__version__} True\n"
