"""What the other processes of a run do: what the first tells them. That one alone decides, and writes the folder."""

from __future__ import annotations

from mg2l_kalei.disk.checkpoint import Checkpoints
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.training.stop_signal import StopSignal

ORDERS = ("iterate", "state_dict", "trials_since")  # methods of ``MetaTrainer`` that all processes go through


def follow(trainer: MetaTrainer, checkpoints: Checkpoints) -> int:
    """Until the first process tells the end; returns the run's exit code. Raises ProcessLost where it is gone.

    Signals are its to answer: ``torchrun`` hands them to all.
    """
    with StopSignal():
        while True:
            order, arguments = trainer.system.processes.told()
            if order == "end":
                return arguments[0]
            if order == "load":
                loaded = checkpoints.load(*arguments)
                trainer.load_state_dict(loaded.state, loaded.shards)
            else:
                assert order in ORDERS, order
                getattr(trainer, order)(*arguments)
