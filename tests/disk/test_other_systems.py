"""Do the packages import where a system has no locks, signals and flags of POSIX?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# What others need of the system is imported before it is taken away: this tests our modules.
WITHOUT_POSIX = """
import importlib, os, pkgutil, signal, subprocess, sys
import multiprocessing.popen_spawn_posix, multiprocessing.resource_tracker
import filelock, numba, omegaconf, PIL.Image, pettingzoo, rich.progress, safetensors.torch, torch
import tensorboard.summary.writer.record_writer
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL", "pthread_sigmask", "SIG_BLOCK"):
    delattr(signal, name)
for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "O_DIRECTORY", "fork", "getuid", "sched_getaffinity", "fchmod"):
    delattr(os, name)
for name in ("fcntl", "resource", "termios", "pwd", "grp", "syslog"):
    sys.modules[name] = None
import envs, mg2l_kalei
for package in (envs, mg2l_kalei):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name != "jax":  # an extra that need not be there
                raise
from pathlib import Path
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.training.stop_signal import StopSignal
run = RunFolder(Path(sys.argv[1]))
with StopSignal(), run.lock():
    pass
(run.path / "lock").unlink()
(run.path / "lock").symlink_to("elsewhere")
try:
    run.lock().__enter__()
except OSError as error:
    print(error)
"""


def test_everything_imports_and_locks_without_posix(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_POSIX, str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path / 'run' / 'lock'} is a link: put the file in its place\n"
