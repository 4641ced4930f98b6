"""What setup.cfg cannot say: a wheel carries ``config/``, which stands beside the packages in the clone."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfig(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            copytree("config", Path(self.build_lib, "mg2l_kalei/config"), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithConfig})
