"""What some families and sinks need, others not: a missing package is one line that names the extra to install."""

from __future__ import annotations

from importlib.util import find_spec

from envs.settings import Refusal

# Package -> the extra of setup.cfg that brings it.
EXTRAS = {
    "numba": "rware",
    "mujoco": "mujoco",
    "gymnasium_robotics": "mujoco",
    "pettingzoo": "pettingzoo",
    "mpe2": "pettingzoo",
    "lbforaging": "pettingzoo",
    "jaxmarl": "smax",
    "onnxscript": "onnx",
    "ray": "ray",
    "wandb": "wandb",
    "mlflow": "mlflow",
}


def require(package: str) -> None:
    """Raises Refusal where the package is not installed. Does not import it."""
    if find_spec(package) is None:
        raise Refusal(f"{package} is not installed: {install(EXTRAS[package])}")


def install(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'mg2l_kalei[{extra}]'"
