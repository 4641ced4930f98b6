"""Many runs: a grid of command lines, and executors that start them."""

from mg2l_kalei.grid.executors import EXECUTORS, Executor, Outcome
from mg2l_kalei.grid.runs import PlannedRun, combinations, planned

__all__ = ["EXECUTORS", "Executor", "Outcome", "PlannedRun", "combinations", "planned"]
